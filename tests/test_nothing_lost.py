"""A training run is killed, signalled and cut off from its disk; after the same command again, all is as in the run that nothing happened to.

With NB_FLAGS=slow: 100 random kills instead of 2, more places and signals and sizes of disk, a soak of 20,000 updates."""
import json, os, pickle, random, resource, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest, torch

from pdd_nb.runs import Interrupted, is_finished
from pdd_nb.state import load_state
from killed import failing_at, killed_at
from small import SMALL, quick, save_teacher

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
TINY = [*SMALL, 'model.teacher.num_inference_steps=4', 'model.student.num_inference_steps=1', 'data.valid_size=4', 'training.steps=[5,4]', 'training.validate_every=4', 'curriculum.num_regions=2']

MATCHED = [f'distillation.matching.{s}' for s in ('students=[1]', 'updates=[3]', 'head_start=2', 'noise_levels=4', 'guidance=0')]

@pytest.fixture(scope='module')
def home(tmp_path_factory, quick):
    "A folder with a teacher and a run that nothing happened to"
    d = tmp_path_factory.mktemp('home')
    save_teacher(d/'teacher')
    train_timed(d, d/'whole')
    return d

def configuration(home, folder, *more):
    from pdd_nb.config import load_config
    return load_config('halving', *TINY, f'model.teacher.name={home/"teacher"}', f'output={folder}', *more)

def train(home, folder, *more):
    from pdd_nb.trainer import distill
    return distill(configuration(home, folder, *more), quiet=True)

def train_timed(home, folder, *more):
    "Train, and note the seconds in the folder"
    began = time.monotonic()
    train(home, folder, *more)
    (folder/'seconds').write_text(str(time.monotonic() - began))
    return folder

def command(home, folder, *more):
    return ['pdd-train', '--config', 'halving', f'model.teacher.name={home/"teacher"}', f'output={folder}', '--quiet', *TINY, *more]

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

@pytest.fixture(autouse=True)
def no_pickles(monkeypatch):
    "No run of these tests may read or write a pickle"
    for module, name in ((torch, 'save'), (torch, 'load'), (pickle, 'dump'), (pickle, 'load')):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail('a pickle'))

def test_no_file_of_a_run_is_a_pickle(home):
    with pytest.raises(pytest.fail.Exception): torch.load(home/'whole/config.yaml')       # so it is in each test of this file
    assert {p.suffix for p in (home/'whole').rglob('*') if p.is_file()} == {'', '.json', '.jsonl', '.yaml', '.safetensors', '.png'}

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

def killed_at_random_moments(home, whole_run, tmp_path, wanted, *more):
    "Each run is killed several times; what a checkpoint holds is never lost again"
    draw, kills, runs = random.Random(0), 0, 0
    whole = float((whole_run/'seconds').read_text())
    while kills < wanted:
        d, runs = tmp_path/f'run{runs}', runs + 1
        for _ in range(8 if SLOW else 2):
            pid, before = fork(lambda: train(home, d, *more)), step_of(d)
            began = time.monotonic()
            status = killed_after(pid, draw.uniform(0, whole))
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
            if status == 0:
                if not before: whole = time.monotonic() - began
                break
            assert step_of(d) >= before
        if not is_finished(d): train(home, d, *more)
        assert_same(whole_run, d)
        assert not leftovers(d)
        shutil.rmtree(d)
        print(f'{kills} kills in {runs} runs', flush=True)

def test_killed_at_random_moments(home, tmp_path): killed_at_random_moments(home, home/'whole', tmp_path, 100 if SLOW else 2)

@pytest.mark.skipif(not SLOW, reason='matching takes longer')
def test_killed_at_random_moments_with_a_change_of_the_objective(home, tmp_path):
    killed_at_random_moments(home, train_timed(home, tmp_path/'whole', *MATCHED), tmp_path, 30, *MATCHED)

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

def test_a_kill_costs_at_most_the_updates_since_the_last_checkpoint(home, tmp_path):
    "One run, killed after a training step and before its checkpoint, and resumed, again and again"
    d, done, sessions = tmp_path/'run', tmp_path/'done', []
    def child(at):
        from pdd_nb.trainer import Trainer
        step = Trainer.train_step
        def noted(self):
            step(self)
            with open(done, 'a') as f: f.write(f'{self.step}\n')
            if self.step == at: os.kill(os.getpid(), signal.SIGKILL)
        Trainer.train_step = noted
        train(home, d)
    for at in (1, *(range(2, 10) if SLOW else (4, 5)), *[0]*SLOW):
        done.unlink(missing_ok=True)
        assert wait(fork(lambda: child(at))) == (-signal.SIGKILL if at else 0)
        sessions.append([int(line) for line in done.read_text().split()])
    redone = [first[-1] - second[0] + 1 for first, second in zip(sessions, sessions[1:])]
    print(f'{redone} updates redone')
    assert max(redone) == 2 and min(redone) >= 0                              # training.checkpoint_every

# damaged

def test_the_command_names_a_damaged_checkpoint_and_goes_on_from_the_one_before(home, tmp_path, capsys):
    "A bit of a file, and a line of metrics"
    from pdd_nb.cli import main
    from pdd_nb.trainer import Trainer
    d = tmp_path/'run'
    Trainer(configuration(home, d), quiet=True).run(stop_at=7)
    damaged = d/'checkpoints/last/optimizer.safetensors'
    data = bytearray(damaged.read_bytes())
    data[-9] ^= 16
    damaged.write_bytes(data)
    main(command(home, d))
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith(f'{damaged}: is damaged') and 'last is now damaged-1, and the other checkpoint is used' in told[0]
    assert_same(home/'whole', d)

def test_a_damaged_line_of_metrics_is_counted_and_no_other_is_lost(home, tmp_path, caplog):
    from pdd_nb.trainer import Trainer
    d = tmp_path/'run'
    Trainer(configuration(home, d), quiet=True).run(stop_at=7)
    lines = (d/'metrics.jsonl').read_text().split('\n')
    (d/'metrics.jsonl').write_text('\n'.join([lines[0].replace(',', '\x85', 1), *lines[1:]]))
    train(home, d)
    assert f'{d/"metrics.jsonl"}: 1 of {len(lines) - 1} lines are missing or damaged' in caplog.text
    assert (d/'metrics.jsonl').read_text().split('\n') == (home/'whole/metrics.jsonl').read_text().split('\n')[1:]

# memory

def test_out_of_memory_is_one_line_and_the_run_goes_on_in_smaller_parts(home, tmp_path, monkeypatch, capsys):
    "The memory of the device holds two samples"
    from pdd_nb.cli import main
    from pdd_nb.objective import Halving
    losses, d = Halving.losses, tmp_path/'run'
    def small(self, draws, progress):
        if progress > .4 and len(draws.items) > 2: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')
        return losses(self, draws, progress)
    monkeypatch.setattr(Halving, 'losses', small)
    with pytest.raises(SystemExit) as e: main(command(home, d))
    told = capsys.readouterr().err.strip().splitlines()
    assert e.value.code == 2 and len(told) == 1 and told[0].startswith('pdd-train: out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.')
    assert all(key in told[0] for key in ('training.batch_size', 'training.accumulation', 'training.gradient_checkpointing', 'model.student.lora_rank'))
    assert step_of(d) == 2
    main(command(home, d, 'training.batch_size=2', 'training.accumulation=2', 'training.gradient_checkpointing=true'))
    found, whole = [[json.loads(line) for line in (f/'metrics.jsonl').read_text().splitlines()] for f in (d, home/'whole')]
    for a, b in zip(found, whole, strict=True): torch.testing.assert_close([a[k] for k in b], list(b.values()), rtol=1e-3, atol=1e-5)

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
    with pytest.raises(SystemExit) as e: main(command(home, tmp_path/'run'))
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

def read_only_or_gone(home, tmp_path, n, gone):
    "From the n-th change of the file system on a run's folder is read-only, or it vanishes there; the number of changes. Afterwards it is as it was"
    from pdd_nb.cli import user_error
    d, away = tmp_path/f'run{n}', tmp_path/'away'
    def vanish():
        if d.exists(): os.rename(d, away)
    try:
        with failing_at(n, d, vanish if gone else None) as count: train(home, d)
        assert gone and not away.exists() or count[0] < n                       # the folder was not made yet, or this was too late
    except (OSError, ValueError) as e:
        told = user_error(e)
        assert told and str(d) in told and '\n' not in told, told
    if away.exists():
        shutil.rmtree(d, ignore_errors=True)
        os.rename(away, d)
    if step_of(d): load_state(d/'checkpoints/last')
    train(home, d)
    assert_same(home/'whole', d)
    assert not leftovers(d)
    shutil.rmtree(d)
    return count[0]

@pytest.mark.parametrize('gone', (False, True), ids=('read-only', 'gone'))
def test_a_folder_that_becomes_read_only_or_vanishes_is_one_line(home, tmp_path, gone):
    "At a change of the file system: none later is lost, and the run goes on to the bit when the folder is back"
    tried = 0
    for n in range(2, 1000, 9) if SLOW else (130,):
        tried += 1
        if read_only_or_gone(home, tmp_path, n, gone) < n: break
    print(f'{tried} moments')

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

def test_matching_skips_and_counts_the_updates_of_both_networks(home, tmp_path, monkeypatch):
    "Of noise that is not finite, in a batch of the fake score and in one of the student, whose images the fake score gets too"
    from pdd_nb.config import stages
    from pdd_nb.matching import Match
    from pdd_nb.trainer import Trainer
    draw, step, changed, d = Match.draw, Trainer.train_step, [], tmp_path/'run'
    def spoilt(self, n, *args, **k):
        draws = draw(self, n, *args, **k)
        if (n, draws.role) in ((1, 'fake'), (3, 'student')): draws.start[0] = float('nan')
        return draws
    def noted(self):
        before = {role: [w.detach().clone() for w in self.nets.weights(role).values()] for role in ('student', 'fake')}
        step(self)
        changed.append({role for role, ws in before.items() if not all(map(torch.equal, ws, self.nets.weights(role).values()))})
    monkeypatch.setattr(Match, 'draw', spoilt)
    monkeypatch.setattr(Trainer, 'train_step', noted)
    cfg = configuration(home, d, *MATCHED, 'distillation.matching.updates=[4]')
    for stop in (5, None):                                                      # a checkpoint has the counts
        trainer = Trainer(cfg, quiet=True, stages=stages(cfg)[-1:])
        trainer.run(stop_at=stop)
    both = {'student', 'fake'}
    assert changed == [{'fake'}, set(), both, set(), both, both]
    assert {role: int(u.skipped) for role, u in trainer.objective.updaters.items()} == dict(student=1, fake=2)
    lines = [json.loads(line) for line in (d/'metrics.jsonl').read_text().splitlines()]
    assert [(m['step'], m.get('skipped')) for m in lines if 'loss' in m] == [(2, 1), (4, 3), (6, 3)]
    numbers = [v for m in lines for v in m.values() if isinstance(v, float)]
    assert torch.tensor(numbers).isfinite().all()

def test_updates_that_are_never_finite_end_the_run(home, tmp_path, monkeypatch):
    spoilt(monkeypatch, range(2, 100))
    with pytest.raises(ValueError, match='training.lr: training diverged by step 4: the loss is not finite'): train(home, tmp_path/'run')
    assert step_of(tmp_path/'run') == 2

# a loss spike

SPIKES = ('training.rollbacks=2', 'curriculum.update_interval=1')

def spiked(monkeypatch, factor, until):
    "The losses of the fifth training step are multiplied, before the run has returned `until` times"
    from pdd_nb.objective import Halving
    from pdd_nb.trainer import Trainer
    record, step, now = Halving.record, Trainer.train_step, []
    def noted(self):
        now[:] = [self.step]
        step(self)
    def spoilt(self, **terms):
        bad = now[0] == 4 and self.returns < until
        record(self, **{k: v*(factor if bad else 1) for k, v in terms.items()})
    monkeypatch.setattr(Trainer, 'train_step', noted)
    monkeypatch.setattr(Halving, 'record', spoilt)

def test_a_loss_spike_returns_to_the_last_checkpoint_for_other_draws(home, tmp_path, monkeypatch):
    "Twice; the same to the bit if the run is cut at the spike, and after the returns"
    from pdd_nb.trainer import Trainer
    spiked(monkeypatch, 1e3, 2)
    whole, cut = train(home, tmp_path/'whole', *SPIKES), tmp_path/'cut'
    lines = [json.loads(line) for line in (whole/'metrics.jsonl').read_text().splitlines()]
    assert [(m['step'], m['rollback'], m['diverged_at']) for m in lines if 'rollback' in m] == [(4, 2, 5)]
    assert [m['step'] for m in lines if 'loss' in m] == list(range(1, 10))
    assert load_state(whole/'checkpoints/last')[0]['rollbacks'] == 2
    for step in (4, 5): Trainer(configuration(home, cut, *SPIKES), quiet=True).run(stop_at=step)
    train(home, cut, *SPIKES)
    assert_same(whole, cut)

def test_a_divergence_ends_the_run_after_the_last_return(home, tmp_path, monkeypatch):
    spiked(monkeypatch, float('nan'), 3)
    with pytest.raises(ValueError, match='training.lr: training diverged by step 5: the output term is not finite'): train(home, tmp_path/'run', *SPIKES)
    lines = [json.loads(line) for line in (tmp_path/'run/metrics.jsonl').read_text().splitlines()]
    assert step_of(tmp_path/'run') == 4 and lines[-1]['rollback'] == 2

# a soak

def soak(cfg, n, stages=None):
    "Ten sessions of `n` updates in one process, each resumed from the checkpoint of the one before: memory, open files and time are flat"
    import gc
    from pdd_nb.trainer import Trainer
    used = []
    for k in range(10):
        began = time.process_time()
        trainer = Trainer(cfg, quiet=True, stages=stages)
        trainer.run(stop_at=(k + 1)*n)
        seconds = time.process_time() - began
        gc.collect()
        resident = int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()/2**20
        used.append((resident, len(os.listdir('/proc/self/fd')), seconds))
        print('session %d: %.0f MiB, %d open files, %.1f s' % (k, *used[-1]), flush=True)
    memory, files, times = zip(*used)
    assert memory[-1] < 1.1*memory[1] and files[-1] <= files[1] and min(times[-3:]) < 1.5*min(times[1:4])
    return trainer

LONG = ('training.validate_every=500', 'training.checkpoint_every=250', 'curriculum.update_interval=50', 'training.patience=0')

@pytest.mark.skipif(not SLOW, reason='20,000 updates take minutes')
def test_memory_files_and_speed_stay_flat_over_20000_updates(home, tmp_path):
    "Of an objective whose optimum is known: the weights are to be one, seen through noise"
    from pdd_nb.config import Stage
    from pdd_nb.feed import batch_indices
    from pdd_nb.objective import OBJECTIVES, CurriculumObjective, Draws
    from pdd_nb.state import keyed
    class Exact(CurriculumObjective):
        criterion = 'val_error'
        def start(self, stage, step):
            self.start_regions(self.nets.family.grid(stage.coarse), step)
            self.updaters['student'].start_stage()
        def off(self): return torch.cat([w.flatten() for w in self.nets.weights().values()]) - 1
        def draw(self, step, n):
            g = keyed(self.seed, 'exact', step)
            steps, weights = self.curriculum.sample(n, g)
            return Draws(batch_indices(self.seed, step, n, 24), steps, weights, scales=weights, noise=torch.randn(n, 1, generator=g))
        def losses(self, draws, progress):
            loss = (self.off() - draws.noise).square().mean(1)
            self.tracker.update(self.regions[draws.steps], loss.detach())
            self.record(loss=loss)
            return draws.weights*loss
        def validate(self): return dict(val_error=self.off().square().mean().item())
    OBJECTIVES['exact'] = Exact
    trainer = soak(configuration(home, tmp_path/'run', *LONG), 2000, [Stage('exact', 4, 2, 20001)])
    lines = [json.loads(line) for line in (tmp_path/'run/metrics.jsonl').read_text().splitlines()]
    assert [m['step'] for m in lines if 'val_error' in m] == list(range(500, 20001, 500))
    assert trainer.step == 20000 and lines[-1]['val_error'] < 1e-2

@pytest.mark.skipif(not SLOW, reason='500 updates of a network take a minute')
def test_memory_files_and_speed_stay_flat_over_500_updates_of_a_network(home, tmp_path):
    soak(configuration(home, tmp_path/'run', *LONG, 'training.steps=[501,4]'), 50)
