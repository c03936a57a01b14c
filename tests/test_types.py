"Types: mypy sees the methods that `@patch` adds; the stubs that are shipped are those of the modules."
import shutil, subprocess, sys, textwrap

import pytest

import typed

def test_mypy(tmp_path):
    "The package, each patched method in its class; which error codes are off for which modules stands in pyproject.toml"
    status, text = typed.check(cache=tmp_path)
    assert status == 0, text

def test_patched_methods_stand_in_their_classes():
    source = textwrap.dedent('''\
        from fastcore.basics import patch
        class A: "one line"

        @patch
        def double(self: A, n: int) -> int:
            "twice"
            return 2*n

        @patch(as_prop=True)
        def size(self: A) -> int: return 1

        def f(): return A().double('x')''')
    text, numbers = typed.merged(source)
    assert text == textwrap.dedent('''\
        from fastcore.basics import patch
        class A:
            "one line"

            def double(self, n: int) -> int:
                "twice"
                return 2*n

            @property
            def size(self) -> int: return 1



        def f(): return A().double('x')''')
    assert numbers[text.split('\n').index("def f(): return A().double('x')")] == 12

def test_an_error_in_a_patched_method_is_found_in_its_own_line(tmp_path, monkeypatch):
    package = tmp_path/'pdd_nb'
    package.mkdir()
    (package/'__init__.py').write_text('')
    (package/'a.py').write_text('from fastcore.basics import patch\nclass A: pass\n\n@patch\ndef f(self: A) -> int:\n    return self.missing\n')
    monkeypatch.setattr(typed, 'package', package)
    status, text = typed.check()
    assert status == 1 and 'pdd_nb/a.py:6: error: "A" has no attribute "missing"' in text

shipped = pytest.mark.skipif(not (typed.package/'py.typed').exists(), reason='no stubs; python tests/typed.py writes them')

@shipped
def test_stubs_are_those_of_the_modules():
    found = {f.name: f.read_text(encoding='utf-8') for f in typed.package.glob('*.pyi')}
    new = typed.stubs()
    different = [name for name in new.keys() | found.keys() if new.get(name) != found.get(name)]
    assert not different, f'{different}: run python tests/typed.py'

@shipped
def test_a_user_of_the_stubs_sees_patched_methods(tmp_path):
    (tmp_path/'user.py').write_text('from pdd_nb.trainer import Trainer\ndef f(t: Trainer) -> None:\n    t.run(stop_at=3)\n    t.folder\n    t.runn()\n')
    (tmp_path/'pdd_nb').mkdir()
    for f in typed.package.glob('*.pyi'): shutil.copy(f, tmp_path/'pdd_nb')
    options = ['--ignore-missing-imports', '--follow-imports=skip', '--cache-dir', tmp_path/'cache']     # torch is not followed
    r = subprocess.run([sys.executable, '-m', 'mypy', *options, 'user.py', 'pdd_nb'], cwd=tmp_path, capture_output=True, text=True)
    assert r.stdout.splitlines()[:-1] == ['user.py:5: error: "Trainer" has no attribute "runn"; maybe "run"?  [attr-defined]'], r.stdout + r.stderr
