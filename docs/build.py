"""The site from the notebooks: `python docs/build.py` makes `_docs` with Sphinx, offline; with `--quarto` it makes it with Quarto, as the GitHub workflow does.

Both start from the pages that nbdev makes (`_proc`): hidden cells dropped, references by `show_doc` added and improved here. Quarto reads them as they are; for Sphinx they are cleaned first (`build/docs/source`).
The order of the pages is the sidebar's in `_quarto.yml`."""
import argparse, ast, json, os, re, shutil, sys, uuid
from dataclasses import MISSING, fields, is_dataclass
from functools import reduce
from importlib import import_module
from inspect import getsourcelines, unwrap
from operator import itemgetter
from pathlib import Path

import yaml
from fastcore.docments import docments
from nbdev.config import get_config
from nbdev.serve import proc_nbs

root = Path(__file__).resolve().parent.parent
COLAB = 'https://colab.research.google.com/github'

def page(path): # of a notebook
    "The name of its page, without the number, as nbdev has it"
    return re.sub(r'^\d+[a-z0-9]*_', '', Path(path).stem)

def sections():
    "Titles and files of the sidebar, in order; a title of `None` for what stands above the sections"
    for e in yaml.safe_load((root/'_quarto.yml').read_text())['website']['sidebar']['contents']:
        yield (None, [e]) if isinstance(e, str) else (e['section'], e['contents'])

def address():
    "Of the repository on GitHub: `Repository` under `[project.urls]` in pyproject.toml, or what a GitHub workflow is told; empty where there is none"
    there = os.environ.get('GITHUB_REPOSITORY')
    return get_config(root).git_url or (f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{there}" if there else '')

def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))
def write(path, nb): Path(path).write_text(json.dumps(nb, ensure_ascii=False, indent=1), encoding='utf-8')
def text(cell): return ''.join(cell['source'])
def markdown(source): return dict(id=uuid.uuid4().hex[:8], cell_type='markdown', metadata={}, source=source)

def badge(name, url): # file name of a notebook; address of the repository
    return f"[Open in Colab]({COLAB}/{re.sub('^https?://[^/]+/', '', url)}/blob/main/nbs/{name}){{.btn .btn-outline-secondary .btn-sm}}"

def fields_table(cls):
    "Of a dataclass: what `show_doc` leaves out, the comments beside the fields"
    notes = docments(cls)
    def default(f):
        if f.default is not MISSING: return f'`{f.default!r}`'
        v = f.default_factory() if f.default_factory is not MISSING else f.type
        return f'`{v!r}`' if isinstance(v, list) else getattr(v, '__name__', type(v).__name__)
    rows = [f"| `{f.name}` | {default(f)} | {(notes.get(f.name) or '').replace('|', chr(92) + '|')} |" for f in fields(cls)]
    return '\n'.join(['| field | default or type | |', '|---|---|---|', *rows])

def source_of(obj): # of a module
    "The code of a function or class, to be unfolded"
    code = ''.join(getsourcelines(unwrap(obj.fget if isinstance(obj, property) else obj))[0]).rstrip()
    return f'\n\n<details class="source-code"><summary>Source</summary>\n\n```python\n{code}\n```\n\n</details>'

def shown_in_full(given): # the code cells of a notebook
    "Names that cells flagged `exports` define, whose code is on the page already"
    names = set()
    for cell in given:
        if not cell.startswith('#| exports'): continue
        for node in ast.parse(cell).body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)): continue
            patched = isinstance(node, ast.FunctionDef) and any('patch' in ast.unparse(d) for d in node.decorator_list)
            names.add(f'{ast.unparse(node.args.args[0].annotation)}.{node.name}' if patched else node.name)
    return names

def references(nb, module, url, shown): # names whose code is on the page
    "Improve what `show_doc` wrote: in the order of the source, under its full name, with the code, and a link to it"
    out, run = [], []
    for c in [*nb['cells'], None]:
        if c and c.get('has_sd'):
            name = re.search(r'show_doc\((.*?)\)', text(c))[1]
            obj = reduce(getattr, name.split('.'), module)
            line = getsourcelines(unwrap(obj.fget if isinstance(obj, property) else obj))[1]
            body = re.search(r'###.*?\n(.*)', ''.join(c['outputs'][0]['data']['text/markdown']), re.S)[1].strip().replace('__main__.', '')
            if is_dataclass(obj): body = f'*{obj.__doc__}*\n\n'*(not obj.__doc__.startswith(name + '(')) + fields_table(obj)
            link = f"[source]({url}/blob/main/{module.__name__.replace('.', '/')}.py#L{line}){{.source}}\n\n" if url else ''
            if name not in shown: body += source_of(obj)
            c['outputs'][0]['data']['text/markdown'] = f'### {name}\n\n{link}{body}'
            run.append((line, c))
        else: out += [d for _, d in sorted(run, key=itemgetter(0))] + [c]; run = []
    return dict(nb, cells=out[:-1])

def stage():
    "The pages as nbdev makes them, with a badge, links to the source, changelog and contributing"
    os.chdir(root)
    proc, url = proc_nbs(n_workers=0, force=True), address()       # in one process: torch is imported once
    for p in sorted(proc.glob('*.ipynb')):
        nb, cells = read(p), [text(c) for c in read(root/'nbs'/p.name)['cells'] if c['cell_type'] == 'code']
        given = '\n'.join(cells)
        exp = re.search(r'^#\| default_exp (\w+)', given, re.M)
        if exp: nb = references(nb, import_module(f'pdd_nb.{exp[1]}'), url, shown_in_full(cells))
        if url and 'pip install' in given: nb['cells'].insert(1, markdown(badge(p.name, url)))
        write(p, nb)
    for f in ('CHANGELOG.md', 'CONTRIBUTING.md'): shutil.copy(root/f, proc/f.lower())
    return proc

def clean(nb):
    "A page of `_proc` as myst-nb reads it"
    cells, deep = [], False                                        # has a heading of the second level come?
    for c in nb['cells']:
        c, s = dict(c, metadata={}), text(c)
        if c['cell_type'] == 'raw':
            head = yaml.safe_load(s.strip().strip('-'))
            c = markdown(f"# {head['title']}\n\n" + (f"> {head['description']}" if head.get('description') else ''))
        elif c.pop('has_sd', False):
            md = ''.join(c['outputs'][0]['data']['text/markdown'])
            c = markdown(md if deep else md[1:])
        elif c['cell_type'] == 'code':
            given = dict(re.findall(r'^#\| *([\w-]+): *(.+)\n', s, re.M))
            c['source'] = re.sub(r'^#\|.*\n', '', s, flags=re.M)
            if 'fig-alt' in given: c['metadata']['mystnb'] = dict(image=dict(alt=yaml.safe_load(given['fig-alt'])))
            if given.get('echo') == 'false': c['metadata']['tags'] = ['remove-input']
            for o in c['outputs']:
                d = o.get('data', {})
                d.pop('application/vnd.jupyter.widget-view+json', None)
                if 'text/markdown' in d: d['text/markdown'] = links(''.join(d['text/markdown']))
        elif re.search('^## ', s, re.M): deep = True
        if c['cell_type'] == 'markdown': c['source'] = links(re.sub('<!--.*?-->', '', text(c), flags=re.S)).replace(' ± ', '\xa0±\xa0')
        if c['cell_type'] == 'code' or text(c).strip(): cells.append(c)
    return dict(nb, cells=cells, metadata={k: v for k, v in nb['metadata'].items() if k != 'widgets'})

def links(s):
    "Links between notebooks as links between pages"
    return re.sub(r'\]\(/?(?:nbs/)?(\w+)\.(?:ipynb|html)(#[^)]*)?\)', lambda m: f"](./{page(m[1])}.ipynb{(m[2] or '').replace('.', '')})", s)

def toctrees():
    entry = lambda title, files: '```{toctree}\n:hidden:\n' + (f':caption: {title}\n' if title else '') + '\n' + '\n'.join(page(f) for f in files) + '\n```'
    return '\n\n'.join(entry(t, fs) for t, fs in sections() if fs != ['index.ipynb'])

def sphinx(proc):
    from sphinx.cmd.build import main
    build, out = root/'build'/'docs', root/'_docs'
    src = build/'source'
    shutil.rmtree(build, ignore_errors=True); src.mkdir(parents=True)
    for p in proc.iterdir():
        if p.suffix == '.ipynb': write(src/f'{page(p)}.ipynb', clean(read(p)))
        elif p.suffix == '.md': (src/p.name).write_text(links(p.read_text()))
        elif p.name == 'images': shutil.copytree(p, src/p.name)
    first = read(src/'index.ipynb'); first['cells'].append(markdown(toctrees())); write(src/'index.ipynb', first)
    if failed := main(['-q', '-W', '--keep-going', '-b', 'html', '-c', str(root/'docs'), '-d', str(build/'doctrees'), str(src), str(build/'html')]): return failed
    shutil.rmtree(out, ignore_errors=True); shutil.move(build/'html', out)

def quarto(proc):
    from nbdev.quarto_render import render_quarto
    render_quarto(proc, root/'_docs')

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--quarto', action='store_true', help='build with Quarto, which must be installed')
    sys.exit((quarto if ap.parse_args().quarto else sphinx)(stage()))
