"What a command does to its terminal: encodings, pipes, a full disk, Ctrl-C, statuses; and what is checked before torch is imported."
import ast, io, json, os, signal, statistics, subprocess, sys, time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pdd_nb import cli

root = Path(__file__).parent.parent
slow = pytest.mark.skipif('slow' not in os.environ.get('NB_FLAGS', ''), reason='slow; NB_FLAGS=slow runs it')

def python(code, *args, **options):
    "A Python process of its own: status, standard output, standard error"
    r = subprocess.run([sys.executable, *args, '-c', code], capture_output=True, text=True, timeout=120, **options)
    return r.returncode, r.stdout, r.stderr

# a program in which `pdd-info` does something else
INSTEAD = """import time
from pdd_nb import cli
def pdd_info(): {}
cli.COMMANDS['pdd-info'] = pdd_info
cli.parse = lambda *args: ([], dict(json=False))
cli.main(['pdd-info'])"""

def call(*args, out=None):
    "A command in this process: status, standard output, standard error"
    out, err, status = out or io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try: cli.main([str(a) for a in args])
        except SystemExit as e: status = e.code
    return status, out, err.getvalue()

@pytest.fixture
def answer(monkeypatch):
    "Make `pdd-info` return, or raise, something else"
    def set(text='', error=None, **values):
        def pdd_info():
            if error: raise error
            return cli.Result(text, values)
        monkeypatch.setitem(cli.COMMANDS, 'pdd-info', pdd_info)
    return set

# ---- encodings

@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_characters_that_a_terminal_lacks_are_escaped(answer, encoding):
    answer('FID 3.1 ± 0.2 of 日本')
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert call('pdd-info', out=out)[0] == 0
    assert out.buffer.getvalue() == 'FID 3.1 ± 0.2 of 日本\n'.encode(encoding, 'backslashreplace')

def test_a_path_that_is_not_utf8_can_be_printed(answer):
    answer('runs/caf\udce9')
    out = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    assert call('pdd-info', out=out)[0] == 0 and out.buffer.getvalue() == b'runs/caf\\udce9\n'

def test_ascii_terminal_in_its_own_process():
    "Whatever the locale: no traceback, and UTF-8 where the locale leaves it open"
    code = INSTEAD.format("return cli.Result('3.1 ± 0.2')")
    env = {k: v for k, v in os.environ.items() if not k.startswith(('LC_', 'LANG', 'PYTHONIO', 'PYTHONUTF8'))}
    assert python(code, env={**env, 'LC_ALL': 'C', 'PYTHONIOENCODING': 'ascii'}) == (0, '3.1 \\xb1 0.2\n', '')
    assert python(code, env={**env, 'LC_ALL': 'C'}, encoding='utf-8') == (0, '3.1 ± 0.2\n', '')

def text_calls(path):
    "Lines of a module that read or write text in the encoding of the locale"
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.Call): continue
        name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        if any(k.arg == 'encoding' for k in node.keywords): continue
        if name in ('read_text', 'write_text') and isinstance(node.func, ast.Attribute): yield node.lineno
        if name == 'open' and isinstance(node.func, ast.Name):
            modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
            if 'b' not in ''.join(modes): yield node.lineno

@pytest.mark.parametrize('path', sorted((root/'pdd_nb').glob('*.py')), ids=lambda p: p.stem)
def test_text_is_utf8_whatever_the_locale(path):
    found = list(text_calls(path))
    if found and path.stem in PENDING: pytest.xfail('not yet')
    assert not found, f'{path.name}, lines {found}: no encoding is given'

# modules that still read or write in the encoding of the locale
PENDING = ('ablation', 'world')

# ---- what a command prints, and where

def test_json_is_all_that_standard_output_gets(monkeypatch):
    def pdd_info():
        print('a library that chats')
        cli._log.warning('a bad item')
        return cli.Result('text', fid=3.)
    monkeypatch.setitem(cli.COMMANDS, 'pdd-info', pdd_info)
    status, out, err = call('pdd-info', '--json')
    assert (status, json.loads(out.getvalue())) == (0, dict(fid=3.)) and err == 'a library that chats\na bad item\n'

def test_a_reader_that_has_seen_enough_is_no_error():
    code = INSTEAD.format("return cli.Result('x\\n'*200_000)")
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    assert (p.stderr.read(), p.wait()) == (b'', 0)

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no /dev/full')
def test_a_full_disk_is_one_line():
    code = INSTEAD.format("return cli.Result('x')")
    with open('/dev/full', 'w') as full: p = subprocess.run([sys.executable, '-c', code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 2 and p.stderr == 'pdd-info: [Errno 28] No space left on device\n'

# ---- errors and statuses

@pytest.mark.parametrize('error, message', [
    (ValueError('seed: expected a number'), 'seed: expected a number'), (ValueError(), 'ValueError()'),
    (PermissionError(13, 'Permission denied', 'runs/a'), 'runs/a: Permission denied'),
    (MemoryError(), 'out of memory (MemoryError())'),
    (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte'), "'utf-8' codec can't decode byte 0xff"),
], ids=lambda v: type(v).__name__)
def test_what_a_user_can_mend_is_one_line(answer, error, message):
    answer(error=error)
    status, out, err = call('pdd-info')
    assert (status, out.getvalue()) == (2, '') and err.startswith(f'pdd-info: {message}') and err.count('\n') == 1

def test_safetensors_that_cannot_be_written_is_one_line(answer, tmp_path):
    import torch
    from safetensors.torch import save_file
    with pytest.raises(Exception) as e: save_file({'a': torch.zeros(2)}, tmp_path/'nowhere'/'a.safetensors')
    answer(error=e.value)
    status, _, err = call('pdd-info')
    assert status == 2 and 'safetensors' in err and err.count('\n') == 1

@pytest.mark.parametrize('error', [KeyError('a'), RuntimeError('shapes'), RecursionError(), AttributeError('x'), TypeError('y')], ids=repr)
def test_an_error_of_the_program_keeps_its_traceback(answer, error):
    answer(error=error)
    with pytest.raises(type(error)): call('pdd-info')

def test_ctrl_c_has_status_130():
    code = INSTEAD.format("print('ready', flush=True); time.sleep(60)")
    p = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.send_signal(signal.SIGINT)
    assert (p.communicate(timeout=30)[1], p.returncode) == ('pdd-info: interrupted\n', 130)

# ---- before torch

@pytest.fixture(scope='module')
def student(tmp_path_factory):
    d = tmp_path_factory.mktemp('run')
    (d/'student').mkdir()
    (d/'student'/'student.json').write_text('{}')
    return d

EARLY = [('pdd-train data.source=/is/not/there', 'data.source: '), ('pdd-train evaluation.prompts_from=/is/not/there.txt', 'evaluation.prompts_from: '),
         ('pdd-train evaluation.reference_from=/is/not/there', 'evaluation.reference_from: '), ('pdd-train evaluation.clip=/is/not/there', 'evaluation.clip: '),
         ('pdd-train model.teacher.name=/is/not/there', 'model.teacher.name: '), ('pdd-train --output /dev/null/run', 'output: '),
         ('pdd-train --config /dev/null', 'config: '), ('pdd-train --config FIFO.yaml', 'config: '), ('pdd-train --config BINARY.yaml', 'config: '),
         ('pdd-encode data.source=/is/not/there', 'data.source: '), ('pdd-encode model.teacher.name=/is/not/there', 'model.teacher.name: '),
         ('pdd-evaluate --checkpoint RUN evaluation.clip=/is/not/there', 'evaluation.clip: '), ('pdd-evaluate --checkpoint /is/not/there', 'checkpoint: '),
         ('pdd-predict --checkpoint RUN --prompt a --output a.xyz', 'output: '), ('pdd-predict --checkpoint RUN --prompt a --output no/a.png', 'output: '),
         ('pdd-predict --checkpoint RUN --prompt a --output TMP', 'output: '), ('pdd-predict --checkpoint /is/not/there --prompt a', 'checkpoint: '),
         (f'pdd-predict --checkpoint RUN --prompt a --seed {2**64}', '--seed: '), ('pdd-report /is/not/there', 'checkpoint: '), ('pdd-report RUN --output a.txt', 'output: '),
         ('pdd-export /is/not/there --output OUT', 'checkpoint: '), ('pdd-ablate --seeds x', '--seeds: '), (f'pdd-train seed={2**64}', 'seed: ')]

@pytest.mark.parametrize('line, key', EARLY, ids=[l for l, _ in EARLY])
def test_mistakes_are_reported_before_torch_is_imported(line, key, student, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, '_import_libraries', lambda: pytest.fail('torch would have been imported'))
    monkeypatch.chdir(tmp_path)
    (tmp_path/'BINARY.yaml').write_bytes(bytes(range(256)))
    os.mkfifo(tmp_path/'FIFO.yaml')
    places = dict(RUN=student, TMP=tmp_path, OUT=tmp_path/'out')
    args = [str(places.get(a, tmp_path/a if a.isupper() or a.endswith('.yaml') else a)) for a in line.split()]
    start = time.monotonic()
    status, out, err = call(*args)
    assert (status, out.getvalue()) == (2, '') and err.startswith(f'{args[0]}: {key}') and err.count('\n') == 1, err
    assert time.monotonic() - start < 1

def test_the_checks_import_no_torch(tmp_path):
    "The same in a process of its own: torch is not even loaded by what is checked"
    code = "import sys; from pdd_nb import cli\ntry: cli.main(['pdd-train', 'data.source=/is/not/there'])\nexcept SystemExit: print('torch' in sys.modules, file=sys.stdout)"
    status, out, err = python(code, cwd=tmp_path)
    assert (status, out) == (0, 'False\n') and err.startswith('pdd-train: data.source: ') and err.count('\n') == 1

def test_the_home_folder_stands_for_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cli.parse('pdd-train', ['--output=~/run'])[1]['output'] == str(tmp_path/'run')

# ---- a busy machine

@pytest.mark.parametrize('env, shown', [({}, 'GOMP_SPINCOUNT=3000, set by pdd_nb before torch was imported'), ({'GOMP_SPINCOUNT': '7'}, 'GOMP_SPINCOUNT=7, of the environment'),
                                        ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'OMP_WAIT_POLICY=ACTIVE, of the environment')], ids=['default', 'count', 'policy'])
def test_spin_count_of_the_user_is_left_alone(env, shown):
    clean = {k: v for k, v in os.environ.items() if k not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')}
    code = "import os, pdd_nb; print(pdd_nb.openmp); print(os.environ.get('GOMP_SPINCOUNT'))"
    want = env.get('GOMP_SPINCOUNT', None if 'OMP_WAIT_POLICY' in env else '3000')
    assert python(code, env=clean | env) == (0, f'{shown}\n{want}\n', '')

def test_spin_count_after_torch_is_said_to_have_no_effect():
    clean = {k: v for k, v in os.environ.items() if k not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')}
    status, out, _ = python("import sys, types; sys.modules['torch'] = types.ModuleType('torch'); import pdd_nb; print(pdd_nb.openmp)", env=clean)
    assert status == 0 and 'torch was imported before pdd_nb' in out

TIMED = '''
import sys, time
import pdd_nb
import torch
from pdd_nb.families import load_pipeline
torch.set_num_threads(2)
unet = load_pipeline().unet
x = torch.randn(32, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
c = torch.randn(32, 16, unet.config.cross_attention_dim)
for line in sys.stdin:
    start = time.perf_counter()
    with torch.no_grad(): unet(x, 500, encoder_hidden_states=c)
    print(time.perf_counter() - start, flush=True)
'''

@slow
def test_a_busy_core_slows_a_forward_by_less_than_two_and_a_half():
    "The embedded UNet with batch 32 and two threads, alone and beside a process that keeps a core busy, in turns; medians"
    pin = f'import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])\n' if hasattr(os, 'sched_setaffinity') else ''
    env = {k: v for k, v in os.environ.items() if not k.startswith(('OMP', 'GOMP'))}
    timed = subprocess.Popen([sys.executable, '-c', pin + TIMED], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    load = subprocess.Popen([sys.executable, '-c', pin + 'while True: pass'])
    def forward():
        timed.stdin.write('\n'); timed.stdin.flush()
        return float(timed.stdout.readline())
    try:
        for _ in range(3): forward()
        idle, busy = [], []
        for _ in range(5):
            load.send_signal(signal.SIGSTOP); idle += [forward() for _ in range(3)]
            load.send_signal(signal.SIGCONT); time.sleep(.1); busy += [forward() for _ in range(3)]
    finally:
        for p in (load, timed): p.kill(); p.wait()
    ratio = statistics.median(busy)/statistics.median(idle)
    print(f'idle {statistics.median(idle):.3f} s, busy {statistics.median(busy):.3f} s, ratio {ratio:.2f}')
    assert ratio <= 2.5
