"Modules, notebooks, README, configurations and version agree. `python tests/test_sync.py` writes the README anew."
import configparser, json, re, shutil, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).parent.parent
bin = Path(sys.executable).parent

def readme():
    "The README is the text of the index notebook"
    cells = json.loads((root/'nbs'/'index.ipynb').read_text())['cells']
    text = '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    return re.sub(r'\]\((?=images/|\w+\.ipynb)', '](nbs/', text) + '\n'

def exported():
    "Modules that the notebooks export, by name"
    found = {}
    for nb in sorted((root/'nbs').glob('*.ipynb')):
        for name in re.findall(r'"#\| default_exp (\w+)', nb.read_text()): found[name] = nb.stem
    return found

@pytest.fixture(scope='module')
def fresh(tmp_path_factory):
    "A copy in which notebooks were exported and cleaned anew"
    d = tmp_path_factory.mktemp('copy')/'pdd_nb'
    d.mkdir()
    for f in ('pyproject.toml', 'settings.ini', 'setup.py', '_quarto.yml', 'README.md'): shutil.copy(root/f, d/f)
    shutil.copytree(root/'nbs', d/'nbs', symlinks=True, ignore=shutil.ignore_patterns('runs')); (d/'pdd_nb').mkdir()
    for f in ('__init__.py', '__main__.py'): shutil.copy(root/'pdd_nb'/f, d/'pdd_nb')                 # written by hand
    for c in ('nbdev-export', 'nbdev-clean'): subprocess.run([bin/c], cwd=d, check=True, capture_output=True)
    return d

def test_modules_are_what_the_notebooks_export(fresh):
    assert {f.name for f in (fresh/'pdd_nb').glob('*.py')} == {f.name for f in (root/'pdd_nb').glob('*.py')}
    for f in sorted((fresh/'pdd_nb').glob('*.py')): assert f.read_text() == (root/'pdd_nb'/f.name).read_text(), f'{f.name} differs from its notebook: run nbdev-export'

def test_notebooks_are_clean(fresh):
    for f in sorted((fresh/'nbs').glob('*.ipynb')): assert f.read_text() == (root/'nbs'/f.name).read_text(), f'{f.name} is not clean: run nbdev-clean'

def test_every_module_has_its_notebook():
    mods = {p.stem for p in (root/'pdd_nb').glob('*.py')} - {'__init__', '_modidx', '__main__'}
    assert mods and mods == set(exported())

def test_modules_import_what_they_use_and_nothing_else():
    "A notebook's hidden imports must not stand in for those of its module. Methods of one name that `@patch` adds to several classes are no mistake"
    files = [f for f in sorted((root/'pdd_nb').glob('*.py')) if f.name != '_modidx.py']
    r = subprocess.run([sys.executable, '-m', 'pyflakes', *files], capture_output=True, text=True)
    found = [line for line in r.stdout.splitlines() if 'redefinition of unused' not in line]
    assert not found and not r.stderr, found

def test_readme_is_the_index(): assert (root/'README.md').read_text() == readme()

def result_row(label, r):
    "A line of the README's table"
    short = lambda v, d: re.sub(r'^0', '', f'{v:.{d}f}')
    def cell(v, d): return short(v['value'], d) + (f" ± {short(v['value'] - v['low'], d)}" if v['value'] != v['low'] else '')
    shown = [cell(r[k], d) if k in r else '' for k, d in (('alignment', 3), ('fid', 2), ('clip_score', 3), ('diversity', 2))]
    return '| ' + ' | '.join([label, str(r['nfe']), *shown]) + ' |'

def result_rows():
    "The table of the long run, and the student of halving alone"
    found = {k: json.loads((root/f'nbs/results/{k}.json').read_text())['results'] for k in ('long', 'halving')}
    lines = []
    for name, r in found['long'].items():
        guided = name.startswith('teacher') and r['guidance'] > 1
        label = re.sub(r' (steps?)$', r' guided \1', name) if guided else name
        lines.append(result_row(f'**{label}**' if name.startswith('student') else label, r))
    return [*lines, result_row('halving alone, 4 steps (2,000 prompts)', found['halving']['student, 4 steps'])]

def test_figures_of_the_readme():
    "The rows of the table are those of the stored evaluations"
    text = (root/'README.md').read_text()
    assert '\n'.join(result_rows()) in text

def test_versions_agree():
    cfg = configparser.ConfigParser(delimiters=['=']); cfg.read(root/'settings.ini')
    assert re.search(r'__version__ = "(.+)"', (root/'pdd_nb'/'__init__.py').read_text())[1] == cfg['DEFAULT']['version']

def test_shipped_configurations_load():
    from pdd_nb.config import load_config
    names = sorted(p.stem for p in (root/'pdd_nb'/'configs').glob('*.yaml'))
    assert {'default', 'ablation', 'long'} <= set(names)
    for n in names: load_config(n)

if __name__ == '__main__': (root/'README.md').write_text(readme())
