"One test per notebook, run by nbdev-test. NB_FLAGS='slow' runs the long cells too."
import os, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).parent.parent
notebooks = sorted((root/'nbs').glob('*.ipynb'))

def test_there_are_notebooks(): assert len(notebooks) >= 13

@pytest.mark.parametrize('nb', notebooks, ids=lambda p: p.stem)
def test_notebook(nb):
    flags = os.environ.get('NB_FLAGS', '')
    r = subprocess.run([Path(sys.executable).with_name('nbdev-test'), nb, *(['--flags', flags, '--cell-timeout', '0'] if flags else [])], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-4000:]
