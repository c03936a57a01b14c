"The site is built as a reader of the repository would build it, and every page is read: links, anchors, pictures, nothing from elsewhere."
import json, os, re, shutil, subprocess, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import yaml

root = Path(__file__).parent.parent
notebooks = sorted((root/'nbs').glob('*.ipynb'))
page = lambda p: re.sub(r'^\d+[a-z0-9]*_', '', p.stem)

class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.fetched, self.alts, self.classes, self.tags = set(), [], [], [], set(), []
        self.feed(path.read_text())
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.tags.append(tag); self.classes |= set((a.get('class') or '').split())
        if 'id' in a: self.ids.add(a['id'])
        if tag == 'a' and 'href' in a: self.links.append(a['href'])
        if tag == 'img': self.alts.append(a.get('alt') or '')
        if 'src' in a: self.fetched.append(a['src'])
        if tag == 'link' and 'href' in a: self.fetched.append(a['href'])

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "Built in a copy, with an address as a GitHub workflow is told; warnings are errors"
    d = tmp_path_factory.mktemp('site')/'pdd_nb'
    d.mkdir()
    for f in ('pyproject.toml', 'settings.ini', '_quarto.yml', 'CHANGELOG.md', 'CONTRIBUTING.md'): shutil.copy(root/f, d/f)
    for f in ('nbs', 'docs', 'pdd_nb'): shutil.copytree(root/f, d/f, symlinks=True, ignore=shutil.ignore_patterns('__pycache__', 'runs'))
    r = subprocess.run([sys.executable, 'docs/build.py'], cwd=d, capture_output=True, text=True, env={**os.environ, 'GITHUB_REPOSITORY': 'someone/pdd_nb'})
    assert r.returncode == 0, (r.stdout + r.stderr)[-4000:]
    return d/'_docs'

@pytest.fixture(scope='module')
def pages(site): return {p: Page(p) for p in site.rglob('*.html')}

def stored_pictures(nb):
    "Alt texts of the cells of a notebook that hold pictures"
    cells = [c for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code' and '#| hide\n' not in c['source']]
    alts = lambda c: [yaml.safe_load(a) for a in re.findall(r'^#\| fig-alt: (.+)', ''.join(c['source']), re.M)]
    return [a for c in cells if any(k.startswith('image/') for o in c['outputs'] for k in o.get('data', {})) for a in alts(c) or [None]]

def test_every_notebook_is_a_page_and_in_the_sidebar(site, pages):
    assert len(notebooks) >= 20
    home = pages[site/'index.html'].links
    for nb in notebooks: assert (site/f'{page(nb)}.html').exists() and (nb.stem == 'index' or f'{page(nb)}.html' in home), f'{nb.name}: add it to the sidebar in _quarto.yml'

def test_no_dead_links(site, pages):
    n = 0
    for path, p in pages.items():
        for link in p.links + p.fetched:
            if re.match(r'(https?|data|mailto):', link): continue
            file, anchor = urldefrag(unquote(link))
            to = (path.parent/file.split('?')[0]).resolve() if file else path
            assert to.is_file(), f'{path.name}: {link} leads nowhere'
            assert not anchor or to not in pages or anchor in pages[to].ids, f'{path.name}: {link}: no such place on that page'
            n += 1
    assert n > 1000

def test_pages_need_nothing_from_elsewhere(site, pages):
    for path, p in pages.items(): assert not [f for f in p.fetched if re.match(r'(https?:)?//', f)], path.name
    for css in site.rglob('*.css'): assert not re.search(r'(url\(|@import)\s*[\'"]?(https?:)?//', css.read_text()), css.name

def test_every_picture_has_alt_text(site, pages):
    for nb in notebooks:
        alts, stored = pages[site/f'{page(nb)}.html'].alts, stored_pictures(nb)
        assert None not in stored, f'{nb.name}: a cell that draws has no `#| fig-alt: ...`'
        for a in stored: assert a in alts, f'{nb.name}: {a!r} did not reach the page'
        for a in alts: assert len(a) > 20 and '/' not in a, f'{nb.name}: alt text {a!r}'
    assert sum(len(p.alts) for p in pages.values()) >= 18

def test_pages_show_results_and_no_remarks_of_libraries(site, pages):
    for nb in notebooks: assert not re.search(r'"name": "stderr"', nb.read_text()), f'{nb.name}: stored remarks on stderr'
    for path, p in pages.items(): assert 'stderr' not in p.classes, path.name
    text = (site/'curriculum.html').read_text()
    assert '<math' in text and '$$' not in text and 'show_doc' not in text and '#|' not in re.sub('<[^>]+>', '', text)
    assert 'share of its uniform weight' in (site/'config.html').read_text()             # the comments beside the fields of a dataclass

def test_notebooks_open_in_colab_and_install_the_package(site, pages):
    with_code = [nb for nb in notebooks if any(c['cell_type'] == 'code' for c in json.loads(nb.read_text())['cells']) and nb.stem != '26_findings']      # findings read files of the repository
    assert len(with_code) >= 20
    for nb in with_code:
        first = next(''.join(c['source']) for c in json.loads(nb.read_text())['cells'] if c['cell_type'] == 'code')
        assert first.startswith('#| hide\n#| eval: false\n! [ -e /content ] && pip install -q pdd_nb'), f'{nb.name}: the first cell of code installs the package on Colab'
        assert f'https://colab.research.google.com/github/someone/pdd_nb/blob/main/nbs/{nb.name}' in pages[site/f'{page(nb)}.html'].links, nb.name
    assert any(re.fullmatch(r'https://github.com/someone/pdd_nb/blob/main/pdd_nb/tracker.py#L\d+', l) for l in pages[site/'tracker.html'].links)
