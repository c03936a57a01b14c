"Sphinx for the offline site; `docs/build.py` calls it."
import re, unicodedata

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

project, author, copyright = 'pdd_nb', 'Alireza Shojaei', 'Alireza Shojaei, MIT License'
extensions = ['myst_nb']
myst_enable_extensions = ['dollarmath', 'attrs_inline']
myst_heading_anchors = 4
nb_execution_mode, nb_render_markdown_format, nb_merge_streams, nb_ipywidgets_js = 'off', 'myst', True, {}
suppress_warnings = ['mystnb.unknown_mime_type']
html_theme, html_title, html_static_path, html_css_files = 'furo', 'pdd_nb', ['static'], ['site.css']
smartquotes = False                          # two hyphens are an option's
html_copy_source = html_show_sphinx = html_show_sourcelink = html_use_index = False
html_math_renderer = 'mathml'

def mathml(tex, display='inline'):
    "MathML of an equation. Letters of other alphabets as characters of their own: browsers no longer read `mathvariant`"
    def letter(m):
        kind, c = m[1].upper(), f'CAPITAL {m[2]}'
        try: return f"<mi>{unicodedata.lookup(f'MATHEMATICAL {kind} {c}')}</mi>"
        except KeyError: return f"<mi>{unicodedata.lookup(f'{kind} {c}')}</mi>"
    return re.sub(r'<mi mathvariant="(double-struck|script)">([A-Z])</mi>', letter, convert(tex, display=display)).replace('<mi>&#x0007E;</mi>', '<mo>&#x0223C;</mo>')

def setup(app):
    "Equations as MathML: browsers draw it with no script and nothing to fetch"
    def inline(self, node): self.body.append(mathml(node.astext())); raise SkipNode
    def block(self, node): self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>'); raise SkipNode
    app.add_html_math_renderer('mathml', (inline, None), (block, None))
