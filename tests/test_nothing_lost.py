"""A training run is killed, signalled and cut off from its disk; after the same command again, all is as in the run that nothing happened to.

With NB_FLAGS=slow: 100 random kills instead of 2, more places and signals and sizes of disk, a soak of 20,000 updates."""
import json, os, random, resource, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest, torch

from pdd_nb.runs import Interrupted, is_finished
from pdd_nb.state import load_state
from killed import killed_at

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
TINY = ('device=cpu model.teacher.resolution=16 model.teacher.num_inference_steps=4 model.student.num_inference_steps=1 distillation.matching.students=[] model.student.lora_rank=4 '
        'data.train_size=24 data.valid_size=4 training.steps=[5,4] training.batch_size=4 training.validate_every=4 training.checkpoint_every=2 '
        'training.lr_warmup=2 curriculum.update_interval=2 curriculum.num_regions=2 evaluation.prompts=0').split()

@pytest.fixture(scope='module', autouse=True)
def quick():
    "Curves take half of the time and play no part"
    import pdd_nb.recorder
    with pytest.MonkeyPatch.context() as m:
        m.setattr(pdd_nb.recorder, 'curve', lambda *a, **k: b'')
        yield

@pytest.fixture(scope='module')
def home(tmp_path_factory, quick):
    "A folder with a teacher and a run that nothing happened to"
    from pdd_nb.families import tiny_families
    d = tmp_path_factory.mktemp('home')
    tiny_families(['SD 1.5'])['SD 1.5'].pipe.save_pretrained(d/'teacher')
    began = time.monotonic()
    train(d, d/'whole')
    (d/'seconds').write_text(str(time.monotonic() - began))
    return d

def configuration(home, folder, *more):
    from pdd_nb.config import load_config
    return load_config('halving', *TINY, f'model.teacher.name={home/"teacher"}', f'output={folder}', *more)

def train(home, folder, *more):
    from pdd_nb.trainer import distill
    return distill(configuration(home, folder, *more), quiet=True)

def fork(f):
    "Run a function in a forked process, which ends with its exit status"
    pid = os.fork()
    if pid: return pid
    status = 1
    try: f(); status = 0
    except Interrupted as e: status = 128 + e.number
    except ValueError as e: print(e, file=sys.stderr); status = 2
    finally: os._exit(status)

def wait(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def state(folder):
    "All that a run ends with, without times"
    meta, groups = load_state(folder/'checkpoints/last')
    meta = {k: v for k, v in meta.items() if k not in ('seconds', 'config')}
    metrics = (folder/'metrics.jsonl').read_text(encoding='utf-8')
    student = {p.name: p.read_bytes() for p in (folder/'student').rglob('*') if p.is_file()}
    return meta, groups, metrics, student

def assert_same(a, b):
    (meta, groups, metrics, student), other = state(a), state(b)
    assert (meta, metrics, student) == (other[0], other[2], other[3])
    torch.testing.assert_close(groups, other[1], rtol=0, atol=0)

def leftovers(folder):
    "Temporary files and folders"
    return [p for p in folder.rglob('.*') if p.name not in ('.pdd_nb.json', '.lock', '.writer')]

def step_of(folder):
    path = folder/'checkpoints/last/state.json'
    return json.loads(path.read_text())['step'] if path.exists() else 0

# the same again

def test_the_same_configuration_and_seed_give_the_same_bits(home, tmp_path):
    train(home, tmp_path/'again')
    assert_same(home/'whole', tmp_path/'again')

# killed

def killed_after(pid, seconds):
    "Kill a process after a time; its status, which is 0 if it ended before"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: return os.waitstatus_to_exitcode(status)
        time.sleep(.01)
    os.kill(pid, signal.SIGKILL)
    return wait(pid)

def test_killed_at_random_moments(home, tmp_path):
    "Each run is killed several times; what a checkpoint holds is never lost again"
    draw, kills, runs = random.Random(0), 0, 0
    whole = float((home/'seconds').read_text())
    while kills < (100 if SLOW else 2):
        d, runs = tmp_path/f'run{runs}', runs + 1
        for _ in range(8 if SLOW else 2):
            pid, before = fork(lambda: train(home, d)), step_of(d)
            began = time.monotonic()
            status = killed_after(pid, draw.uniform(0, whole))
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
            if status == 0:
                if not before: whole = time.monotonic() - began
                break
            assert step_of(d) >= before
        if not is_finished(d): train(home, d)
        assert_same(home/'whole', d)
        assert not leftovers(d)
        shutil.rmtree(d)
    print(f'{kills} kills in {runs} runs')

CALLS = ('replace', 'rename', 'fsync', 'mkdir', 'rmdir', 'unlink')

def test_killed_where_a_file_is_half_written_or_moved(home, tmp_path):
    "One run, killed further and further on, each time in a resumption"
    n, statuses, status = 0 if SLOW else 60, 0, 9
    while status == 9:
        def child(): killed_at(n, CALLS); train(home, tmp_path/'run')
        status, statuses, n = wait(fork(child)), statuses + 1, n + (3 if SLOW else 90)
    print(f'{statuses - 1} kills')
    assert status == 0 and statuses > 1
    assert_same(home/'whole', tmp_path/'run')
    assert not leftovers(tmp_path/'run')

# signals

@pytest.mark.parametrize('name', ('SIGINT', 'SIGTERM', 'SIGHUP') if SLOW else ('SIGTERM',))
def test_a_signal_ends_the_step_with_a_checkpoint(home, tmp_path, monkeypatch, name):
    from pdd_nb.trainer import Trainer
    step, number, d = Trainer.train_step, getattr(signal, name), tmp_path/'run'
    def send(self):
        if self.step == 2: os.kill(os.getpid(), number)
        step(self)
    monkeypatch.setattr(Trainer, 'train_step', send)
    trainer = Trainer(configuration(home, d), quiet=True)
    with pytest.raises(KeyboardInterrupt) as e: trainer.run()
    assert (e.value.number, step_of(d), leftovers(d)) == (number, 3, [])
    monkeypatch.undo()
    trainer.run()                                                            # as in a notebook
    assert_same(home/'whole', d)

def test_a_second_signal_ends_at_once(home, tmp_path, monkeypatch):
    from pdd_nb.trainer import Trainer
    def send(self):
        for number in (signal.SIGTERM, signal.SIGHUP): signal.raise_signal(number)
        raise AssertionError('not at once')
    monkeypatch.setattr(Trainer, 'train_step', send)
    with pytest.raises(Interrupted, match='SIGHUP'): train(home, tmp_path/'run')

def test_the_command_ends_with_one_line_and_the_status_of_the_signal(home, tmp_path, monkeypatch, capsys):
    from pdd_nb.cli import main
    from pdd_nb.trainer import Trainer
    step = Trainer.train_step
    def send(self):
        if self.step == 2: os.kill(os.getpid(), signal.SIGTERM)
        step(self)
    monkeypatch.setattr(Trainer, 'train_step', send)
    argv = ['pdd-train', '--config', 'halving', f'model.teacher.name={home/"teacher"}', f'output={tmp_path/"run"}', '--quiet', *TINY]
    with pytest.raises(SystemExit) as e: main(argv)
    assert (e.value.code, *capsys.readouterr()) == (143, '', 'pdd-train: interrupted; the same command goes on from the last checkpoint\n')
    assert step_of(tmp_path/'run') == 3

def test_ignored_signals_stay_ignored(home, tmp_path):
    def child(): signal.signal(signal.SIGHUP, signal.SIG_IGN); train(home, tmp_path/'run', 'training.steps=[2,1]')       # as `nohup` does
    pid = fork(child)
    while not (tmp_path/'run/metrics.jsonl').exists(): time.sleep(.01)
    os.kill(pid, signal.SIGHUP)
    assert wait(pid) == 0 and is_finished(tmp_path/'run')

# one writer

def test_the_second_of_two_runs_is_refused(home, tmp_path):
    d = tmp_path/'run'
    pid = fork(lambda: train(home, d, 'training.steps=[500,5]'))
    try:
        while not (d/'checkpoints/last').exists(): time.sleep(.01)
        with pytest.raises(ValueError, match=f'^output: process {pid} on .* is writing to {d}; wait for its end'): train(home, d, 'training.steps=[500,5]')
    finally: os.kill(pid, signal.SIGKILL); wait(pid)
    from pdd_nb.trainer import Trainer
    Trainer(configuration(home, d, 'training.steps=[500,5]'), quiet=True).run(stop_at=step_of(d) + 1)        # the lock of a dead process

# the disk

def small_disk(folder, size):
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'none', folder], capture_output=True).returncode: pytest.skip('needs the right to mount')

def test_a_full_disk_is_one_line_and_the_run_goes_on_elsewhere(home, tmp_path):
    size = sum(p.stat().st_size for p in (home/'whole').rglob('*') if p.is_file())
    failed = 0
    for k, share in enumerate((.1, .3, .5, .7, .9) if SLOW else (.5,)):
        disk = tmp_path/f'disk{k}'
        small_disk(disk, int(share*size))
        try:
            try: train(home, disk/'run')
            except (OSError, ValueError) as e:
                failed += 1
                assert str(disk/'run') in str(e) and ('No space left' in str(e)), e
                assert not [p for p in leftovers(disk/'run') if p.is_dir()]
                if (disk/'run/checkpoints/last').exists(): load_state(disk/'run/checkpoints/last')
                shutil.copytree(disk/'run', tmp_path/f'elsewhere{k}')
                train(home, tmp_path/f'elsewhere{k}')
                assert_same(home/'whole', tmp_path/f'elsewhere{k}')
        finally: subprocess.run(['umount', disk], check=True)
    assert failed >= (3 if SLOW else 1)

def test_a_folder_that_vanishes_is_one_line(home, tmp_path, monkeypatch):
    from pdd_nb.trainer import Trainer
    step, d = Trainer.train_step, tmp_path/'run'
    def vanish(self):
        if self.step == 3: os.rename(d, tmp_path/'moved')
        step(self)
    monkeypatch.setattr(Trainer, 'train_step', vanish)
    with pytest.raises((OSError, ValueError), match=str(d)): train(home, d)
    monkeypatch.undo()
    shutil.rmtree(d, ignore_errors=True); os.rename(tmp_path/'moved', d)
    train(home, d)
    assert_same(home/'whole', d)

# bad numbers

def spoilt(monkeypatch, at):
    "The losses of these steps are not finite"
    from pdd_nb.trainer import Trainer
    from pdd_nb.objective import Halving
    losses, step = Halving.losses, Trainer.train_step
    now = []
    def noted(self): now[:] = [self.step]; step(self)
    monkeypatch.setattr(Trainer, 'train_step', noted)
    monkeypatch.setattr(Halving, 'losses', lambda *a: losses(*a)*(float('nan') if now[0] in at else 1))

def test_an_update_that_is_not_finite_is_skipped_and_counted(home, tmp_path, monkeypatch):
    from pdd_nb.trainer import Trainer
    spoilt(monkeypatch, {1})
    trainer = Trainer(configuration(home, tmp_path/'run'), quiet=True)
    trainer.begin()
    before = []
    for _ in range(3):
        before.append({k: w.detach().clone() for k, w in trainer.nets.weights().items()})
        trainer.train_step()
    torch.testing.assert_close(before[2], before[1], rtol=0, atol=0)
    assert any(not torch.equal(w, before[2][k]) for k, w in trainer.nets.weights().items())
    whole, cut = train(home, tmp_path/'whole'), tmp_path/'cut'
    Trainer(configuration(home, cut), quiet=True).run(stop_at=3)
    train(home, cut)
    assert_same(whole, cut)
    lines = [json.loads(line) for line in (whole/'metrics.jsonl').read_text().splitlines()]
    assert {m['stage']: m.get('skipped') for m in lines if 'loss' in m} == {0: 1, 1: None}

def test_updates_that_are_never_finite_end_the_run(home, tmp_path, monkeypatch):
    spoilt(monkeypatch, range(2, 100))
    with pytest.raises(ValueError, match='training.lr: training diverged by step 4: the loss is not finite'): train(home, tmp_path/'run')
    assert step_of(tmp_path/'run') == 2

# a soak

@pytest.mark.skipif(not SLOW, reason='20,000 updates take long')
def test_memory_files_and_speed_stay_flat_over_20000_updates(home, tmp_path):
    "Ten sessions of 2,000 updates in one process, each resumed from the checkpoint of the one before"
    import gc
    from pdd_nb.trainer import Trainer
    n, used = 2000, []
    cfg = configuration(home, tmp_path/'run', f'training.steps=[{10*n},4]', 'training.validate_every=1000', 'training.checkpoint_every=500', 'curriculum.update_interval=100')
    for k in range(10):
        began = time.monotonic()
        Trainer(cfg, quiet=True).run(stop_at=(k + 1)*n)
        gc.collect()
        resident = int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()/2**20
        used.append((resident, len(os.listdir('/proc/self/fd')), time.monotonic() - began))
        print('session %d: %.0f MiB, %d open files, %.1f s' % (k, *used[-1]), flush=True)
    memory, files, seconds = zip(*used)
    assert memory[-1] < 1.1*memory[1] and files[-1] <= files[1] and min(seconds[-3:]) < 1.5*min(seconds[1:4])
