"What stands around the package: workflows, templates, citation; and how fast it is imported."
import configparser, re, subprocess, sys
from pathlib import Path

import pytest
import yaml

root = Path(__file__).parent.parent
github = root/'.github'
load = lambda p: yaml.load(p.read_text(), yaml.BaseLoader)           # `on` is a key, not a truth value

@pytest.mark.parametrize('f', sorted(github.rglob('*.y*ml')), ids=lambda p: p.name)
def test_github_files_are_valid(f):
    d = load(f)
    if f.parent.name == 'workflows':
        assert d['name'] and d['on'] and d['jobs']
        for job in d['jobs'].values(): assert job['runs-on'] and all(('uses' in s) != ('run' in s) for s in job['steps'])
    else: assert d['name'] and d['description'] and all(b['type'] in ('markdown', 'input', 'textarea', 'dropdown', 'checkboxes') for b in d['body'])

def test_the_expected_files_are_there():
    assert {str(p.relative_to(github)) for p in github.rglob('*.y*ml')} >= {'workflows/test.yaml', 'workflows/docs.yaml', 'workflows/release.yaml', 'ISSUE_TEMPLATE/bug.yaml', 'ISSUE_TEMPLATE/feature.yaml'}

def test_the_workflow_runs_the_command_of_the_readme():
    command = [l for l in (root/'README.md').read_text().splitlines() if 'python -m venv' in l and 'pytest' in l]
    job = load(github/'workflows'/'test.yaml')['jobs']['test']
    assert len(command) == 1 and command[0] in [s.get('run', '').strip() for s in job['steps']]
    assert job['strategy']['matrix']['python'] == ['3.10', '3.11', '3.12', '3.13']

def test_citation_agrees_with_the_package():
    c, cfg = load(root/'CITATION.cff'), configparser.ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini'); cfg = cfg['DEFAULT']
    assert c['cff-version'] == '1.2.0' and c['message'] and c['type'] == 'software'
    assert (c['title'], c['version'], c['license']) == (cfg['lib_name'], cfg['version'], cfg['license'])
    assert [f"{a['given-names']} {a['family-names']}" for a in c['authors']] == [cfg['author']]
    assert f"## {cfg['version']}" in (root/'CHANGELOG.md').read_text()

@pytest.mark.parametrize('module', ['pdd_nb', 'pdd_nb.config', 'pdd_nb.cli'])
def test_import_is_light(module):
    "Within a second, the best of three, and without the heavy libraries"
    code = f"import sys, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t, *{{'torch', 'diffusers', 'transformers', 'matplotlib'}} & set(sys.modules))"
    runs = [subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    assert min(float(r[0]) for r in runs) < 1 and all(len(r) == 1 for r in runs), runs

def test_commands_load_only_what_they_need():
    "In one process: what draws, then what trains, evaluates and reports; libraries for later, or for other families, are not loaded"
    code = """if True:
        import sys, pdd_nb.sampling
        rare = ['matplotlib', 'torchmetrics', 'nbdev', 'IPython', 'ipywidgets', 'mlflow', 'wandb', 'tensorboard', 'datasets', 'pandas']
        others = ['pdd_nb.trainer', 'pdd_nb.evaluation', 'diffusers.pipelines.flux.pipeline_flux', 'diffusers.pipelines.sana.pipeline_sana']
        print(*[m for m in rare + others if m in sys.modules], sep='\\n')
        import pdd_nb.trainer, pdd_nb.plan, pdd_nb.evaluation, pdd_nb.report
        print(*[m for m in rare if m in sys.modules], sep='\\n')"""
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split() == []
