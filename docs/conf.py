"Sphinx for the offline site; `docs/build.py` calls it."
from latex2mathml.converter import convert

project, author, copyright = 'pdd_nb', 'Alireza Shojaei', 'Alireza Shojaei, MIT License'
extensions = ['myst_nb']
myst_enable_extensions = ['dollarmath', 'attrs_inline']
myst_heading_anchors = 4
nb_execution_mode, nb_render_markdown_format, nb_merge_streams, nb_ipywidgets_js = 'off', 'myst', True, {}
suppress_warnings = ['mystnb.unknown_mime_type']
html_theme, html_title, html_static_path, html_css_files = 'furo', 'pdd_nb', ['static'], ['site.css']
html_copy_source = html_show_sphinx = html_show_sourcelink = False
html_math_renderer = 'mathml'

def setup(app):
    "Equations as MathML: every browser draws it, with no script and nothing to fetch"
    def inline(self, node): self.body.append(convert(node.astext())); raise SkipNode
    def block(self, node): self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>'); raise SkipNode
    from docutils.nodes import SkipNode
    app.add_html_math_renderer('mathml', (inline, None), (block, None))
