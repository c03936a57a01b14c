"A checkpoint is whole or refused by name, at whatever moment its writer is killed; one process writes to a folder."
import os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest, torch

from pdd_nb.folders import MARKER, all_files, check_free, only_writer, tidy
from pdd_nb.runs import KEPT, repair_checkpoints
from pdd_nb.state import load_state, save_state
from killed import killed_at

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')

def save(folder, step):
    "A checkpoint whose every value is its step"
    save_state(folder/'last', dict(step=step), keep=KEPT, student=dict(w=torch.full((50,), step)), ema=dict(w=torch.full((9,), step)),
               optimizer=dict(w=torch.full((70,), step)), teacher=dict(w=torch.full((5,), step)))

def step_of(folder):
    "The step of a whole checkpoint"
    meta, groups = load_state(folder)
    found = {meta['step'], *(int(v) for tensors in groups.values() for v in tensors['w'])}
    assert len(found) == 1 and len(groups) == 4, found
    return found.pop()

def in_child(f):
    "Run a function in a forked process; its exit status"
    pid = os.fork()
    if not pid:
        try: f()
        except BaseException: os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

# damage

def damages(folder):
    "Ways to damage a checkpoint: a name and a function"
    names = [*all_files(folder), MARKER]
    def flip(name, k):
        data = bytearray((folder/name).read_bytes()); data[k % len(data)] ^= 1 << k % 8
        (folder/name).write_bytes(data)
    for name in names:
        size = (folder/name).stat().st_size
        for k in range(20): yield f'{name}: bit {k} of 20', lambda name=name, k=k*size//20 + k: flip(name, k)
        for k in (0, size//2, size - 1): yield f'{name}: cut to {k} bytes', lambda name=name, k=k: os.truncate(folder/name, k)
        yield f'{name}: removed', lambda name=name: (folder/name).unlink()
        for other in names:
            if other != name: yield f'{name}: replaced by {other}', lambda name=name, other=other: shutil.copy(folder/other, folder/name)

def test_every_damage_is_named_and_the_checkpoint_before_is_used(tmp_path):
    for step in (2, 4): save(tmp_path/'whole', step)
    tried = 0
    for what, _ in damages(tmp_path/'whole/last'):
        d = Path(shutil.copytree(tmp_path/'whole', tmp_path/f'run{tried}'))
        dict(damages(d/'last'))[what]()
        before = {p: p.read_bytes() for p in (d/'last').iterdir()}
        try: step = step_of(d/'last')
        except ValueError as e: assert str(d/'last') in str(e) and '\n' not in str(e), (what, e)
        else: assert step == 4 and what.startswith(MARKER), what           # a bit of the marker that says nothing of a file
        repair_checkpoints(d)
        assert step_of(d/'last') in ((2, 4) if what.startswith(MARKER) else (2,)), what
        aside = d/'damaged-1'
        if aside.exists(): assert {p.name: p.read_bytes() for p in aside.iterdir()} == {p.name: b for p, b in before.items()}
        shutil.rmtree(d); tried += 1
    assert tried == 6*(20 + 3 + 1 + 5)                                        # bits, lengths, removed, another file

def test_without_a_whole_checkpoint_nothing_is_touched(tmp_path):
    for step in (2, 4): save(tmp_path, step)
    for name in ('last', KEPT): os.truncate(tmp_path/name/'ema.safetensors', 9)
    with pytest.raises(ValueError, match='last/ema.safetensors: is damaged.*restart the run'): repair_checkpoints(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['last', KEPT]

def test_files_of_others_in_both_checkpoints_are_kept(tmp_path):
    for step in (2, 4): save(tmp_path, step)
    (tmp_path/'last/a.txt').write_text('a'); (tmp_path/KEPT/'b.txt').write_text('b')
    for step in (6, 8, 10): save(tmp_path, step)
    assert [(tmp_path/'last'/name).read_text() for name in ('a.txt', 'b.txt')] == ['a', 'b']

# killed

CALLS = ('replace', 'fsync', 'open', 'mkdir', 'rmdir', 'unlink', 'chmod')

@pytest.mark.parametrize('saves', (1, 3))
def test_a_kill_at_any_change_of_the_file_system_leaves_a_whole_checkpoint(tmp_path, saves):
    "The checkpoint before or the new one; nothing temporary stays"
    for n in range(1000):
        d = tmp_path/str(n); d.mkdir()
        for step in range(1, saves): save(d, step)
        def child(): killed_at(n, CALLS); save(d, saves)
        status = in_child(child)
        assert status in (0, 9)
        there = [p for p in d.iterdir() if not p.name.startswith('.')]
        if saves > 1 or there: assert max(step_of(p) for p in there) in (saves - 1, saves)
        tidy(d/'last'); tidy(d/'last', KEPT); repair_checkpoints(d)
        assert {p.name for p in d.iterdir()} <= {'last', KEPT}                  # no damage was found either
        save(d, saves + 1)
        assert step_of(d/'last') == saves + 1
        if not status: break
    print(f'{n} moments')
    assert n > 20

def test_a_reader_sees_a_whole_checkpoint_at_any_time(tmp_path):
    def write():
        for step in range(2, 10**6): save(tmp_path, step)
    save(tmp_path, 1)
    if not (writer := os.fork()):
        try: write()
        finally: os._exit(1)
    try:
        steps, end = [], time.monotonic() + (60 if SLOW else 4)
        while time.monotonic() < end:
            try: steps.append(step_of(tmp_path/'last'))
            except ValueError as e: assert 'no checkpoint here' in str(e), e       # between the two moves
    finally: os.kill(writer, signal.SIGKILL); os.waitpid(writer, 0)
    print(f'{len(steps)} reads of {len(set(steps))} checkpoints')
    assert steps == sorted(steps) and len(set(steps)) > 5

# the disk

@pytest.fixture
def small_disk(tmp_path):
    "A file system of 200 KB"
    d = tmp_path/'disk'; d.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=200k', 'none', d], capture_output=True).returncode: pytest.skip('needs the right to mount')
    yield d
    subprocess.run(['umount', d], check=True)

def test_a_full_disk_leaves_the_checkpoint_and_no_temporary_file(small_disk):
    def big(n): return dict(student=dict(w=torch.zeros(n)), ema=dict(w=torch.zeros(5)))
    save_state(small_disk/'last', dict(step=1), keep=KEPT, **big(5000))
    refused = 0
    for n in range(5000, 60000, 500):                                          # 110 saves
        try: save_state(small_disk/'last', dict(step=2, text='x'*n), keep=KEPT, **big(n))
        except OSError as e:
            assert str(small_disk) in str(e) and ('No space left' in str(e) or 'cannot be written' in str(e)), e
            refused += 1
        load_state(small_disk/'last')
        assert {p.name for p in small_disk.iterdir()} <= {'last', KEPT}
    print(f'{refused} of 110 saves did not fit')
    assert refused > 20

def test_a_folder_that_vanishes_or_becomes_read_only_is_named(tmp_path):
    save(tmp_path, 1)
    (tmp_path/'file').write_text('')
    with pytest.raises(OSError, match=str(tmp_path/'file')): save(tmp_path/'file', 2)
    assert step_of(tmp_path/'last') == 1

# one writer

HOLD = 'import sys\nfrom pdd_nb.folders import only_writer\nwith only_writer(sys.argv[1]): print("locked", flush=True); sys.stdin.read()'

def test_the_second_writer_is_refused_and_a_dead_one_is_forgotten(tmp_path):
    first = subprocess.Popen([sys.executable, '-c', HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert first.stdout.readline() == b'locked\n'
        for attempt in (lambda: check_free(tmp_path), lambda: only_writer(tmp_path).__enter__()):
            with pytest.raises(ValueError, match=f'^output: process {first.pid} on .* is writing to {tmp_path}; wait for its end, or choose another'): attempt()
    finally: first.kill(); first.communicate()
    check_free(tmp_path)
    with only_writer(tmp_path): pass
