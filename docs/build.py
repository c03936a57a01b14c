"""The site from the notebooks: `python docs/build.py` makes `_docs` with Sphinx, offline; with `--quarto` it makes it with Quarto, as the GitHub workflow does.

Both start from the pages that nbdev makes (`_proc`): hidden cells dropped, references by `show_doc` added. Quarto reads them as they are; for Sphinx they are cleaned first (`build/docs/source`).
The order of the pages is the sidebar's in `_quarto.yml`."""
import argparse, json, os, re, shutil, sys, uuid
from pathlib import Path

import yaml

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
    from nbdev.config import get_config
    there = os.environ.get('GITHUB_REPOSITORY')
    return get_config(root).git_url or (f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{there}" if there else '')

def read(path): return json.loads(Path(path).read_text(encoding='utf-8'))
def write(path, nb): Path(path).write_text(json.dumps(nb, ensure_ascii=False, indent=1), encoding='utf-8')
def text(cell): return ''.join(cell['source'])
def markdown(source): return dict(id=uuid.uuid4().hex[:8], cell_type='markdown', metadata={}, source=source)

def badge(name, url): # file name of a notebook; address of the repository
    return f"[Open in Colab]({COLAB}/{re.sub('^https?://[^/]+/', '', url)}/blob/main/nbs/{name}){{.btn .btn-outline-secondary .btn-sm}}"

def by_line(cells):
    "References in the order of the source: nbdev puts those of one cell last to first"
    line = lambda c: int(re.search(r'#L(\d+)\)', str(c['outputs']) + '#L0)')[1])
    out, run = [], []
    for c in [*cells, {}]:
        if c.get('has_sd'): run.append(c)
        else: out += sorted(run, key=line) + [c]; run = []
    return out[:-1]

def stage():
    "The pages as nbdev makes them, with a badge, links to the source, changelog and contributing"
    from nbdev.serve import proc_nbs
    os.chdir(root)
    proc, url = proc_nbs(n_workers=0, force=True), address()       # in one process: torch is imported once
    for p in sorted(proc.glob('*.ipynb')):
        nb = read(p)
        nb['cells'] = by_line(nb['cells'])
        for c in nb['cells']:
            for o in c.get('outputs', []):
                if c.get('has_sd'): o['data']['text/markdown'] = re.sub(r'\[source\]\(/blob/(.*?)\)\{.*?\}\s*', rf'[source]({url}/blob/\1){{.source}}\n\n' if url else '', ''.join(o['data']['text/markdown']))
        if url and any(c['cell_type'] == 'code' for c in read(root/'nbs'/p.name)['cells']): nb['cells'].insert(1, markdown(badge(p.name, url)))
        write(p, nb)
    for f in ('CHANGELOG.md', 'CONTRIBUTING.md'): shutil.copy(root/f, proc/f.lower())
    return proc

def clean(nb):
    "A page of `_proc` as myst-nb reads it"
    cells = []
    for c in nb['cells']:
        c, s = dict(c, metadata={}), text(c)
        if c['cell_type'] == 'raw':
            head = yaml.safe_load(s.strip().strip('-'))
            c = markdown(f"# {head['title']}\n\n" + (f"> {head['description']}" if head.get('description') else ''))
        elif c.pop('has_sd', False):
            s = ''.join(c['outputs'][0]['data']['text/markdown']).lstrip('-\n')
            c = markdown(s if any(text(d).startswith('## ') for d in cells) else s.replace('### ', '## ', 1))
        elif c['cell_type'] == 'code':
            given = dict(re.findall(r'^#\| *([\w-]+): *(.+)\n', s, re.M))
            c['source'] = re.sub(r'^#\|.*\n', '', s, flags=re.M)
            if 'fig-alt' in given: c['metadata']['mystnb'] = dict(image=dict(alt=yaml.safe_load(given['fig-alt'])))
            if given.get('echo') == 'false': c['metadata']['tags'] = ['remove-input']
            for o in c['outputs']:
                d = o.get('data', {})
                d.pop('application/vnd.jupyter.widget-view+json', None)
                if 'text/markdown' in d: d['text/markdown'] = links(''.join(d['text/markdown']))
        if c['cell_type'] == 'markdown': c['source'] = links(re.sub('<!--.*?-->', '', text(c), flags=re.S))
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
