"The wheel and the sdist hold everything and work from an empty folder; several processes train as one."
import json, os, subprocess, sys, tarfile, zipfile
from pathlib import Path

import pytest, torch

from pdd_nb.models import load_student
from pdd_nb.state import load_state

root = Path(__file__).parent.parent

@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    d = tmp_path_factory.mktemp('dist')
    subprocess.run([sys.executable, '-m', 'build', '--outdir', d, root], check=True, capture_output=True, cwd=d)
    return d

NEEDED = {f'pdd_nb/assets/{f}' for f in ('teacher/model_index.json', 'teacher/unet/diffusion_pytorch_model.safetensors', 'teacher/vae/diffusion_pytorch_model.safetensors',
          'teacher/text_encoder/model.safetensors', 'teacher/tokenizer/tokenizer.json', 'teacher/scheduler/scheduler_config.json', 'clip/model.safetensors', 'reader/model.safetensors')} \
         | {f'pdd_nb/configs/{c}.yaml' for c in ('default', 'ablation', 'long')}

def shipped(): return NEEDED | {str(p.relative_to(root)) for k in ('assets', 'configs') for p in (root/'pdd_nb'/k).rglob('*') if p.is_file()} | {f'pdd_nb/{p.name}' for pattern in ('*.py', '*.pyi', 'py.typed') for p in (root/'pdd_nb').glob(pattern)}

def test_wheel_and_sdist_are_complete(dist):
    wheel, = dist.glob('*.whl'); sdist, = dist.glob('*.tar.gz')
    assert shipped() <= set(zipfile.ZipFile(wheel).namelist())
    assert shipped() | {'settings.ini', 'README.md', 'LICENSE'} <= {n.split('/', 1)[1] for n in tarfile.open(sdist).getnames() if '/' in n}

def test_wheel_works_from_an_empty_folder(dist, tmp_path):
    wheel, = dist.glob('*.whl')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', tmp_path/'site', wheel], check=True, capture_output=True)
    (tmp_path/'empty').mkdir()
    code = 'import pdd_nb; from pdd_nb.config import load_config; from pdd_nb.families import load_pipeline; from pdd_nb.sampling import sample_images; load_config("default"); p = load_pipeline(); print(pdd_nb.__file__, sample_images(p, ["a star"], 1).shape)'
    r = subprocess.run([sys.executable, '-c', code], cwd=tmp_path/'empty', env={**os.environ, 'PYTHONPATH': str(tmp_path/'site')}, capture_output=True, text=True)
    assert r.returncode == 0 and str(tmp_path) in r.stdout and '(1, 3, 64, 64)' in r.stdout.replace('torch.Size([', '(').replace('])', ')'), r.stdout + r.stderr

def last(run):
    "Plain values and tensors of the last checkpoint of a run, without what tells how it was run"
    meta, groups = load_state(run/'checkpoints'/'last')
    return {k: v for k, v in meta.items() if k not in ('seconds', 'config', 'first_loss')}, groups

def test_two_processes_train_as_one(tmp_path):
    "Halving and matching; cut between two readings, and gone on with; one process dies, and the other goes on alone, at the same place"
    r = subprocess.run([sys.executable, root/'tests'/'two_processes.py', tmp_path], capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    states = [(tmp_path/f'state-{rank}.json').read_text() for rank in (0, 1)]
    assert states[0] == states[1] and set(json.loads(states[0])) == {'halving', 'matching'}
    assert (tmp_path/'message').read_text() == ('accelerate: another process ended, or did not answer for 30 minutes; '
                                                'repeat the command to go on from the last checkpoint, with as many processes as are left')
    two, one = last(tmp_path/'two'), last(tmp_path/'one')
    torch.testing.assert_close(two[1], one[1], rtol=1e-4, atol=1e-5)
    assert set(one[1]) >= {'student', 'ema', 'optimizer', 'fake_weights', 'fake_ema', 'fake_optimizer'} and one[0]['samples'] == 4
    assert two[0].keys() == one[0].keys() and all(two[0][k] == one[0][k] for k in ('step', 'stage', 'updates', 'skipped', 'samples'))
    lines = [[json.loads(l) for l in (tmp_path/n/'metrics.jsonl').read_text().splitlines()] for n in ('two', 'one')]
    for a, b in zip(*lines, strict=True): assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
    divided = last(tmp_path/'divided')                          # the base's weights were, over both; and it was cut
    torch.testing.assert_close(divided[1], one[1], rtol=1e-4, atol=5e-5)        # another memory format
    (held, whole), (other, _) = [json.loads((tmp_path/f'held-{rank}.json').read_text()) for rank in (0, 1)]
    adapters = 2*sum(p.numel() for p in one[1]['student'].values())             # of student and fake score, whole in both
    assert held + other == whole + adapters and abs(held - other) < .1*held
    assert len(list((tmp_path/'divided'/'samples').glob('*.png'))) == 3
    load_student(tmp_path/'divided')                            # was compared with the trained adapters when it was saved

def test_the_files_for_accelerate_are_read_by_its_parser():
    from accelerate.commands.config.config_args import load_config_from_file
    folder = root/'pdd_nb'/'configs'/'accelerate'
    read = {f.stem: load_config_from_file(str(f)) for f in folder.glob('*.yaml')}
    assert {k: (str(c.distributed_type.value), c.num_machines, c.num_processes) for k, c in read.items()} == {'gpus': ('MULTI_GPU', 1, 8), 'nodes': ('MULTI_GPU', 2, 16),
                                                                                                            'fsdp': ('FSDP', 1, 8)}

@pytest.mark.skipif('slow' not in os.environ.get('NB_FLAGS', ''), reason='slow')
def test_accelerate_launches_two_processes(tmp_path):
    "The command of the documentation, on the CPU: with --cpu, accelerate starts one process, whatever their number"
    launch = [Path(sys.executable).with_name('accelerate'), 'launch', '--config_file', root/'pdd_nb'/'configs'/'accelerate'/'gpus.yaml', '--num_processes', '2']
    small = ['model.teacher.num_inference_steps=8', 'training.steps=2', 'training.validate_every=2', 'data.train_size=32', 'data.valid_size=8',
             'evaluation.prompts=0', 'device=cpu', 'distillation.matching.students=[]']
    r = subprocess.run([*launch, Path(sys.executable).with_name('pdd-train'), '--quiet', '--output', tmp_path/'run', *small], capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    assert json.loads((tmp_path/'run'/'summary.json').read_text())['processes'] == 2
