"What a tracker was given is what it has: read back from TensorBoard's files, from a real MLflow server, and from the files of Weights & Biases offline."
import json, os, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest
from PIL import Image

from test_package import TINY

bin = Path(sys.executable).parent
SMALL = [*TINY, 'training.batch_size=4', 'training.checkpoint_every=3']

def run(*args, env={}, ok=True):
    r = subprocess.run([sys.executable, *map(str, args)] if str(args[0]).endswith('.py') else [bin/args[0], *map(str, args[1:])], capture_output=True, text=True, env={**os.environ, **env})
    assert (r.returncode == 0) == ok, (r.stdout + r.stderr)[-3000:]
    return r

def train(out, tracker, stop_at=None, env={}):
    "A run by `pdd-train`, or, to cut it short, by a script"
    if not stop_at: return run('pdd-train', '--output', out, '--tracker', tracker, *SMALL, env=env)
    script = out.with_suffix('.py')
    script.write_text(f'from pdd_nb.config import load_config\nfrom pdd_nb.trainer import Trainer\nTrainer(load_config("default", "output={out}", "training.tracker={tracker}", *{SMALL}), quiet=True).run(stop_at={stop_at})')
    return run(script, env=env)

@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "An MLflow server on a free port, with an SQLite store; it starts while the other tests run"
    d = tmp_path_factory.mktemp('mlflow')
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {**os.environ, 'MLFLOW_SERVER_ENABLE_JOB_EXECUTION': 'false'}
    p = subprocess.Popen([bin/'mlflow', 'server', '--backend-store-uri', f'sqlite:///{d}/store.db', '--artifacts-destination', d/'artifacts', '--host', '127.0.0.1', '--port', str(port), '--workers', '1'],
                         stdout=open(d/'log', 'w'), stderr=subprocess.STDOUT, env=env, start_new_session=True)
    yield f'http://127.0.0.1:{port}', d/'log'
    os.killpg(p.pid, 15); p.wait()

def answers(url, log):
    for _ in range(240):
        try: return urllib.request.urlopen(f'{url}/health', timeout=5).read() == b'OK'
        except OSError: time.sleep(.5)
    raise AssertionError(log.read_text()[-3000:])

def numbers(folder): "What the run itself says: metric -> list of `(step, value)`"; return [json.loads(l) for l in (folder/'metrics.jsonl').read_text().splitlines() if 'stage_end' not in l]

def curves(folder):
    out = {}
    for m in numbers(folder):
        for k in m.keys() - {'step', 'stage', 'steps'}: out.setdefault(k, []).append((m['step'], pytest.approx(m[k], rel=1e-5)))
    assert {'loss', 'lr', 'val_loss', 'val_divergence', 'divergence/0', 'divergence/2', 'weight/1', 'rate/2'} <= set(out)
    return out

def test_tensorboard(server, tmp_path):
    "Cut between two checkpoints and gone on with, no point is missing or there twice"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    d = tmp_path/'tb'
    train(d, 'tensorboard', stop_at=5); train(d, 'tensorboard')
    ev = EventAccumulator(str(d/'logs')); ev.Reload()
    want = curves(d)
    assert {k: [(e.step, e.value) for e in ev.Scalars(k)] for k in want} == want
    pictures = ev.Images('samples')
    assert [e.step for e in pictures] == [3, 6] and pictures[-1].encoded_image_string[:4] == b'\x89PNG'
    assert (pictures[-1].width, pictures[-1].height) == Image.open(d/'samples'/'4steps_000006.png').size

def test_wandb_offline(server, tmp_path):
    d, env = tmp_path/'wb', {'WANDB_MODE': 'offline', 'WANDB_DATA_DIR': str(tmp_path/'data'), 'WANDB_CACHE_DIR': str(tmp_path/'cache'), 'WANDB_CONFIG_DIR': str(tmp_path/'config')}
    run('pdd-train', '--output', d, '--tracker', 'wandb', *SMALL, env=env)

def test_mlflow_server(server, tmp_path):
    d, (url, log) = tmp_path/'mf', server
    assert answers(url, log)
    env = {'MLFLOW_TRACKING_URI': url}
    train(d, 'mlflow', stop_at=5, env=env); train(d, 'mlflow', env=env)
