"A run's folder: nothing of anybody else's is deleted, mistakes are told before anything is lost, what is not a number is not saved."
import json, shutil
from pathlib import Path

import pytest, torch

from small import SMALL, quick, save_teacher

TINY = [*SMALL, 'model.teacher.num_inference_steps=8', 'model.student.num_inference_steps=2', 'data.valid_size=8', 'training.steps=[4,4]', 'training.validate_every=20']
OWN = ('samples', 'plots', 'logs', 'student', 'checkpoints', 'trajectories')

def lines(file): return [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]
def finite(folder):
    from safetensors.torch import load_file
    return all(bool(t.isfinite().all()) for f in folder.glob('*.safetensors') for t in load_file(f).values())

@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp('teacher')/'tiny')

@pytest.fixture
def train(teacher):
    "Train as the command does; overrides come last"
    from pdd_nb.config import load_config
    from pdd_nb.trainer import distill
    def run(folder, *overrides, resume=True, name=None):
        cfg = load_config('halving', *TINY, f'model.teacher.name={name or teacher}', f'output={folder}', *overrides)
        return distill(cfg, resume, quiet=True)
    return run

@pytest.fixture(scope='module')
def done(teacher, tmp_path_factory, quick):
    "A finished run, to be copied"
    from pdd_nb.config import load_config
    from pdd_nb.trainer import distill
    d = tmp_path_factory.mktemp('done')/'run'
    return distill(load_config('halving', *TINY, f'model.teacher.name={teacher}', f'output={d}'), quiet=True)

@pytest.fixture
def run(done, tmp_path): return Path(shutil.copytree(done, tmp_path/'run'))

# other people's files

@pytest.mark.parametrize('resume', (True, False))
def test_a_folder_that_no_run_made_is_refused_and_left_alone(train, tmp_path, resume):
    d = tmp_path/'project'
    for name in OWN: (d/name).mkdir(parents=True); (d/name/'mine.txt').write_text('months of work')
    with pytest.raises(ValueError, match='output: .* is in the way, and no run of pdd_nb made it'): train(d, resume=resume)
    assert sorted(p.parent.name for p in d.rglob('mine.txt')) == sorted(OWN) and len(list(d.rglob('*'))) == 2*len(OWN)

def test_a_file_of_that_name_is_refused(train, tmp_path):
    (tmp_path/'config.yaml').write_text('mine: true')
    with pytest.raises(ValueError, match='config.yaml is in the way'): train(tmp_path)
    assert (tmp_path/'config.yaml').read_text() == 'mine: true'

def test_restart_with_a_mistake_keeps_the_finished_run(train, run):
    before = {p: p.read_bytes() for p in run.rglob('*') if p.is_file()}
    for mistake in ('data.source=/is/not/there', 'model.teacher.name=/is/not/there', 'model.student.lora_targets=[nothing]', 'data.encoded=/proc/no'):
        with pytest.raises(ValueError): train(run, mistake, resume=False)
    assert {p: p.read_bytes() for p in run.rglob('*') if p.is_file()} == before

def test_restart_deletes_what_the_run_made_and_nothing_else(train, run):
    mine = [run/'notes.txt', run/'samples/mine.png', run/'plots/mine.png', run/'student/README.md', run/'checkpoints/mine.txt']
    for f in mine: f.write_text('mine')
    (run/'samples/9steps_000001.png').write_text('')
    ours = {'evaluation.json': '{"protocol": {}}', 'grid.png': 'tEXtstudent', 'report.html': '<meta name="generator" content="pdd_nb">', 'report.md': '<!-- report of pdd_nb -->'}
    for name, text in ours.items(): (run/name).write_text(text)
    train(run, 'seed=5', 'training.steps=[2,2]', resume=False)
    assert [f.read_text() for f in mine] == ['mine']*5
    assert not [name for name in (*ours, 'samples/9steps_000001.png') if (run/name).exists()] and (run/'student/student.json').exists()
    for name in ours: (run/name).write_text('mine')                      # of these names, and not ours
    train(run, 'seed=5', 'training.steps=[2,2]', resume=False)
    assert [(run/name).read_text() for name in ours] == ['mine']*4

def test_a_finished_run_without_checkpoints_stays_finished(train, run):
    shutil.rmtree(run/'checkpoints')
    before = {p: p.read_bytes() for p in run.rglob('*') if p.is_file()}
    train(run)
    with pytest.raises(ValueError, match='holds a run with seed=0, not 5'): train(run, 'seed=5')
    assert {p: p.read_bytes() for p in run.rglob('*') if p.is_file()} == before

def test_restart_goes_past_a_broken_checkpoint(train, run):
    (run/'checkpoints/last/state.json').write_text('{"step": ')
    assert train(run, 'training.steps=[1,1]', resume=False) == run and (run/'summary.json').exists()

def test_what_is_published_can_be_read_by_others(run):
    assert {oct(p.stat().st_mode & 0o777) for p in (run/'student').rglob('*') if p.is_file()} == {'0o644'}

def test_a_path_that_cannot_be_used_is_told_with_its_key(train, tmp_path):
    (tmp_path/'file').write_text('')
    for path in (tmp_path/('x'*300), tmp_path/'file', tmp_path/'file/run', '/proc/no'):
        with pytest.raises(ValueError, match='^output: '): train(path)

def test_the_home_folder_is_expanded(train, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert train('~/run', 'training.steps=[1,1]') == tmp_path/'run' and (tmp_path/'run/student/student.json').exists()

# finished, or not

def test_killed_between_student_and_summary(train, run):
    (run/'summary.json').unlink()
    assert train(run) == run and json.loads((run/'summary.json').read_text())['steps'] == 8

def test_a_finished_run_is_not_trained_again(train, run):
    before = (run/'student/pytorch_lora_weights.safetensors').stat().st_mtime_ns
    train(run)
    assert (run/'student/pytorch_lora_weights.safetensors').stat().st_mtime_ns == before
    with pytest.raises(ValueError, match='holds a run with training.lr=0.002, not 0.001'): train(run, 'training.lr=1e-3')

def test_metrics_that_were_cut_by_a_kill_are_resumed(train, run, done):
    shutil.rmtree(run/'student')
    with open(run/'metrics.jsonl', 'a') as f: f.write('{"step": 9, "lo')
    train(run)
    assert lines(run/'metrics.jsonl') == lines(done/'metrics.jsonl')

@pytest.mark.parametrize('version', ('first_version', 'second_version'))
def test_a_run_of_an_earlier_format_is_resumed(version, tmp_path, monkeypatch):
    "Checkpoints of the first have no markers and know one objective; those of the second state their format"
    from pdd_nb.config import config_from
    from pdd_nb.families import tiny_families
    from pdd_nb.trainer import distill
    monkeypatch.chdir(tmp_path)
    data = Path(__file__).parent/'data'
    shutil.copytree(data/version, tmp_path/'run')
    tiny_families(['SD 1.5'])['SD 1.5'].pipe.save_pretrained('tiny')
    cfg = config_from(json.loads(Path('run/checkpoints/last/state.json').read_text())['config'])
    distill(cfg, quiet=True)
    found, whole = lines(tmp_path/'run/metrics.jsonl'), lines(data/f'{version}_whole.jsonl')
    assert [(m['step'], m['stage']) for m in found] == [(m['step'], m['stage']) for m in whole]
    for a, b in zip(found, whole):
        assert a.keys() == b.keys()
        torch.testing.assert_close([a[k] for k in a], [b[k] for k in a], rtol=1e-3, atol=1e-6)

# not a number

def test_a_state_that_is_not_finite_never_replaces_a_good_checkpoint(train, tmp_path, monkeypatch):
    from pdd_nb.trainer import Trainer
    step, d, more = Trainer.train_step, tmp_path/'run', ['training.steps=[10,2]']
    def spoil(self):
        step(self)
        if self.step == 7: next(iter(self.nets.weights().values())).data.view(-1)[0] = float('nan')
    monkeypatch.setattr(Trainer, 'train_step', spoil)
    with pytest.raises(ValueError, match='training diverged by step 8: '): train(d, *more)
    assert finite(d/'checkpoints/last') and json.loads((d/'checkpoints/last/state.json').read_text())['step'] == 6
    monkeypatch.undo()
    train(d, *more)                                                      # the cause is gone: the run goes on
    whole = train(tmp_path/'whole', *more)
    assert lines(d/'metrics.jsonl') == lines(whole/'metrics.jsonl')

def test_a_diverged_run_goes_on_with_a_lower_rate(train, tmp_path):
    d, more = tmp_path/'run', ['training.steps=[8,2]', 'training.lr_warmup=0', 'training.clip=1e30']
    for _ in range(2):
        with pytest.raises(ValueError, match='training.lr: training diverged by step .* below 1e[+]09'): train(d, *more, 'training.lr=1e9')
    assert not (d/'checkpoints/last').exists() or finite(d/'checkpoints/last')
    assert (train(d, *more, 'training.lr=1e-4')/'summary.json').exists()

def test_a_teacher_that_is_not_finite_is_not_called_a_learning_rate(train, teacher, tmp_path):
    from safetensors.torch import load_file, save_file
    t = shutil.copytree(teacher, tmp_path/'teacher')
    file = t/'unet/diffusion_pytorch_model.safetensors'
    tensors = load_file(file); tensors['conv_in.weight'].view(-1)[:1].fill_(float('nan')); save_file(tensors, file, dict(format='pt'))
    with pytest.raises(ValueError, match='^model.teacher.name: .*conv_in.weight'): train(tmp_path/'run', name=t)
    assert not (tmp_path/'run/checkpoints').exists()

def test_latents_that_are_not_finite_are_told_before_training(teacher, tmp_path):
    from accelerate import Accelerator
    from pdd_nb.config import load_config
    from pdd_nb.families import tiny_families
    from pdd_nb.feed import Feeds, LatentFeed
    from pdd_nb.models import Networks, select
    from pdd_nb.config import stages
    from pdd_nb.objective import Halving
    cfg, family = load_config('halving', *TINY), tiny_families(['SD 1.5'])['SD 1.5']
    z, cond = torch.full((8, *family.shape), float('inf')), family.encode(['a star']*8)
    feed = LatentFeed(lambda k: (z[k], select(cond, k)), 8)
    halving = Halving(cfg, Networks(family, cfg.model, family.null()), Feeds(feed, feed), Accelerator(cpu=True))
    with pytest.raises(ValueError, match='^data.source: latents'): halving.start(stages(cfg)[0], 0)

# told early

def test_a_mistake_in_the_evaluation_is_told_before_training(train, tmp_path):
    for mistake in ('prompts_from=/is/not/there.txt', 'reference_from=/is/not/there', 'clip=/is/not/there'):
        with pytest.raises(ValueError, match=f'^evaluation.{mistake.split("=")[0]}: '): train(tmp_path/'run', 'evaluation.prompts=8', f'evaluation.{mistake}')
    assert not (tmp_path/'run').exists()
