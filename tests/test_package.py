"The wheel and the sdist hold everything and work from an empty folder; several processes train as one."
import json, os, subprocess, sys, tarfile, zipfile
from pathlib import Path

import pytest

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

TINY = ['model.teacher.num_inference_steps=8', 'model.student.num_inference_steps=4', 'model.student.lora_rank=4', 'training.steps=6', 'training.validate_every=3',
        'data.train_size=32', 'data.valid_size=8', 'evaluation.prompts=0', 'curriculum.update_interval=2', 'device=cpu', 'threads=1', 'distillation.matching.students=[]']

def train(out, *args, processes=1, stop_at=None):
    "The metrics of a run by `pdd-train`, or, to cut it short, by a script"
    cmd = [Path(sys.executable).with_name('pdd-train'), '--quiet', '--output', out, *TINY, *args]
    if stop_at:
        script = out.with_suffix('.py')
        script.write_text(f'from pdd_nb.config import load_config\nfrom pdd_nb.trainer import Trainer\nTrainer(load_config("default", "output={out}", *{[*TINY, *args]}), quiet=True).run(stop_at={stop_at})')
        cmd = [script] if processes > 1 else [sys.executable, script]
    # --multi_gpu: several processes by torch.distributed; with --cpu accelerate starts one, whatever their number. The configuration keeps them on the CPU
    if processes > 1: cmd = [Path(sys.executable).with_name('accelerate'), 'launch', '--multi_gpu', '--num_processes', str(processes), '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no', *cmd]
    r = subprocess.run(cmd, capture_output=True, text=True)
    assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    return [json.loads(l) for l in (out/'metrics.jsonl').read_text().splitlines()]

def test_two_processes_train_as_one(tmp_path):
    two = train(tmp_path/'two', 'training.batch_size=4', processes=2)
    one = train(tmp_path/'one', 'training.batch_size=4', 'training.accumulation=2')
    assert [m['step'] for m in two] == [m['step'] for m in one]
    # the same items, grid steps and noise: equal but for rounding
    for a, b in zip(two, one, strict=True):
        assert a.keys() == b.keys() and all(a[k] == pytest.approx(b[k], rel=1e-3, abs=1e-5) for k in a), (a, b)
    assert [json.loads((tmp_path/n/'summary.json').read_text())['processes'] for n in ('two', 'one')] == [2, 1]

def test_two_processes_resume(tmp_path):
    "Cut between two readings and gone on with, two processes end as if they had not been cut"
    args = ['training.batch_size=4', 'training.steps=4', 'training.validate_every=4', 'curriculum.update_interval=4']
    whole = train(tmp_path/'whole', *args, processes=2)
    train(tmp_path/'cut', *args, processes=2, stop_at=2)
    for a, b in zip(train(tmp_path/'cut', *args, processes=2), whole, strict=True): assert a == pytest.approx(b, rel=1e-5)
