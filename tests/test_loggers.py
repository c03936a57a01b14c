"What loggers were given is what they have: read back from TensorBoard's files, from a real MLflow server, and from the files of Weights & Biases offline."
import json, os, signal, socket, struct, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest
from PIL import Image

TINY = ['model.teacher.num_inference_steps=8', 'model.student.num_inference_steps=4', 'model.student.lora_rank=4', 'training.steps=6', 'training.validate_every=3',
        'data.train_size=32', 'data.valid_size=8', 'evaluation.prompts=0', 'curriculum.update_interval=2', 'device=cpu', 'threads=1', 'distillation.matching.students=[]']

bin = Path(sys.executable).parent

@pytest.fixture(scope='module')
def server(tmp_path_factory):
    "Address and log of an MLflow server on a free port, with an SQLite store, which hands artifacts on"
    d = tmp_path_factory.mktemp('mlflow')
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    with open(d/'log', 'w') as log:
        p = subprocess.Popen([bin/'mlflow', 'server', '--backend-store-uri', f'sqlite:///{d}/store.db', '--artifacts-destination', d/'artifacts', '--host', '127.0.0.1', '--port', str(port), '--workers', '1'],
                             stdout=log, stderr=log, env={**os.environ, 'MLFLOW_SERVER_ENABLE_JOB_EXECUTION': 'false'}, start_new_session=True)
    yield f'http://127.0.0.1:{port}', d/'log'
    os.killpg(p.pid, signal.SIGTERM); p.wait()

def wait_for(url, log):
    for _ in range(300):
        try: return urllib.request.urlopen(f'{url}/health', timeout=5)
        except OSError: time.sleep(.4)
    raise AssertionError(log.read_text()[-3000:])

SECRETS = dict(HF_TOKEN='hf_q7w8e9r0t1', WANDB_API_KEY='5f4dcc3b5aa765d61d8327deb882cf99abcdef01', PASSWORD='pq9secret8z')

@pytest.fixture(scope='module')
def logged(server, tmp_path_factory):
    "A run in all loggers, cut between two checkpoints, resumed by `pdd-train`, and evaluated: its folder, and the result of the command"
    d, (url, log) = tmp_path_factory.mktemp('runs')/'logged', server
    env = {**os.environ, **SECRETS, 'MLFLOW_TRACKING_URI': url.replace('//', f'//me:{SECRETS["PASSWORD"]}@'), 'WANDB_MODE': 'offline', **{f'WANDB_{k}_DIR': str(d.parent/k) for k in ('DATA', 'CACHE', 'CONFIG')}}
    args = [f'output={d}', *TINY, 'training.batch_size=4', 'training.checkpoint_every=3', 'evaluation.prompts=4', 'evaluation.reference=16', 'evaluation.replicates=4']
    script = d.with_name('cut.py')
    script.write_text(f'from pdd_nb.config import load_config\nfrom pdd_nb.trainer import Trainer\nt = Trainer(load_config("default", "training.tracker=all", *{args}), quiet=True)\nt.run(stop_at=5)')
    import mlflow, pdd_nb.sampling                                      # while the server starts
    wait_for(url, log)
    r = subprocess.run([sys.executable, script], capture_output=True, text=True, env=env); assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    first = json.loads((d/'tracking.json').read_text(encoding='utf-8'))
    r = subprocess.run([bin/'pdd-train', '--tracker', 'all', '--json', *args], capture_output=True, text=True, env=env); assert r.returncode == 0, (r.stdout + r.stderr)[-3000:]
    assert json.loads((d/'tracking.json').read_text(encoding='utf-8')) == first and set(first) == {'tensorboard', 'mlflow', 'wandb'}
    assert 'WARNING' not in r.stderr and 'Traceback' not in r.stderr, r.stderr
    d.with_name('errors').write_text(r.stderr)
    return d, json.loads(r.stdout)                                     # nothing but the result is there

def curves(folder):
    "What the run itself has: metric -> step -> value"
    out = {}
    for m in map(json.loads, (folder/'metrics.jsonl').read_text().splitlines()):
        if 'stage_end' in m: continue
        for k in m.keys() - {'step', 'stage', 'steps'}: out.setdefault(k, {})[m['step']] = pytest.approx(m[k], rel=1e-5)
    assert {'loss', 'lr', 'val_loss', 'val_divergence', *[f'{k}/{r}' for k in ('divergence', 'rate', 'weight') for r in range(3)]} <= set(out) and list(out['val_loss']) == [3, 6]
    return out

def test_mlflow_server(server, logged, tmp_path):
    import mlflow
    from pdd_nb.models import load_student
    from pdd_nb.sampling import sample_images
    from torch.testing import assert_close
    (d, result), client = logged, mlflow.MlflowClient(server[0])
    run, = client.search_runs([client.get_experiment_by_name('pdd_nb').experiment_id])          # one run, though two processes wrote it
    assert (run.info.run_name, run.info.status) == ('logged', 'FINISHED')
    assert run.data.params['training.lr'] == '0.002' and run.data.params['curriculum.num_regions'] == '3'
    for k, want in curves(d).items(): assert {m.step: m.value for m in client.get_metric_history(run.info.run_id, k)} == want, k
    assert run.data.metrics['evaluation/fid'] == pytest.approx(result['results']['student, 4 steps']['fid']['value'])
    files = lambda path=None: [f for a in client.list_artifacts(run.info.run_id, path) for f in (files(a.path) if a.is_dir else [a.path])]
    assert {'config.yaml', 'metrics.jsonl', 'summary.json', 'evaluation.json', 'report.html', 'grid.png', 'plots/divergence.png', 'plots/weights.png', 'student/student.json'} <= set(files())
    assert len([f for f in files() if f.startswith('images/samples') and f.endswith('.png')]) >= 2
    back = client.download_artifacts(run.info.run_id, 'student', str(tmp_path))
    one, two = [sample_images(load_student(p), ['a red star'], 4) for p in (back, d/'student')]
    assert_close(one, two, rtol=0, atol=0)

def test_tensorboard(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    d, result = logged
    ev = EventAccumulator(str(d/'logs')); ev.Reload()
    for k, want in curves(d).items(): assert [(e.step, e.value) for e in ev.Scalars(k)] == list(want.items()), k            # no point twice
    assert [e.step for e in ev.Images('samples')] == [3, 6] and [e.step for e in ev.Images('evaluation')] == [6]
    assert (ev.Images('samples')[1].width, ev.Images('samples')[1].height) == Image.open(d/'samples'/'4steps_000006.png').size
    assert ev.Scalars('evaluation/fid')[0].value == pytest.approx(result['results']['student, 4 steps']['fid']['value'])

def records(path):
    "Of a file of Weights & Biases, in LevelDB's log format: blocks of 32 KiB; pieces with checksum, length and kind (1 whole, 2 first, 3 middle, 4 last)"
    from wandb.proto.wandb_internal_pb2 import Record
    data, pos, part = path.read_bytes(), 7, b''
    while pos + 7 <= len(data):
        if (left := 32768 - pos % 32768) < 7: pos += left; continue
        _, n, kind = struct.unpack('<IHB', data[pos:pos + 7])
        part, pos = part + data[pos + 7:pos + 7 + n], pos + 7 + n
        if kind in (1, 4): r = Record(); r.ParseFromString(part); part = b''; yield r

def test_wandb_offline(logged):
    "A folder for each process, of one run, which `wandb sync` puts together"
    d, _ = logged
    folders = sorted(p for p in (d/'wandb').glob('offline-run-*'))
    found = [r for f in folders for r in records(*f.glob('*.wandb'))]
    assert len(folders) == 3 and {r.run.run_id for r in found if r.HasField('run')} == {json.loads((d/'tracking.json').read_text(encoding='utf-8'))['wandb']}
    rows = [{'/'.join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item} for r in found if r.HasField('history')]
    for k, want in curves(d).items(): assert {h['_step']: h[k] for h in rows if k in h} == want, k
    settings = {'/'.join(u.nested_key) or u.key: json.loads(u.value_json) for r in found if r.HasField('config') for u in r.config.update}
    assert settings['training.lr'] == .002
    files = {str(p.relative_to(f/'files')) for f in folders for p in (f/'files').rglob('*') if not p.is_symlink()}
    assert {'config.yaml', 'metrics.jsonl', 'evaluation.json', 'report.html', 'plots/divergence.png'} <= files and any(f.startswith('media/images/samples') for f in files)
    model, = [r.artifact for r in found if r.HasField('artifact')]
    assert model.type == 'model' and 'student.json' in {c.path for c in model.manifest.contents}

def test_no_token_reaches_a_file_or_the_terminal(logged):
    "Those of the environment, and the password in the address of the server: none is in the folder of the run, in those of its loggers, or on standard error"
    d, result = logged
    assert (d/'report.html').exists() and list(d.glob('wandb/*')) and list(d.glob('logs/*'))
    found = [(p, name) for p in d.parent.rglob('*') if p.is_file() for name, secret in SECRETS.items() if secret.encode() in p.read_bytes()]
    assert not found and not [name for name, secret in SECRETS.items() if secret in json.dumps(result)]
    assert 'run ' in (d.with_name('errors')).read_text()                    # where MLflow has it

@pytest.mark.parametrize('key', ('output', 'data.encoded', 'data.source', 'model.teacher.name', 'model.teacher.loras', 'evaluation.prompts_from', 'evaluation.reference_from', 'evaluation.clip', 'evaluation.features'))
@pytest.mark.parametrize('address', ('https://me:pq9secret8z@host/run', 's3://me:pq9secret8z@bucket/a.tar', 'hf:https://me:pq9secret8z@host/a'))
def test_an_address_with_a_password_is_refused_and_not_shown(tmp_path, monkeypatch, capsys, key, address):
    from pdd_nb.cli import main
    monkeypatch.chdir(tmp_path)
    value = f'{{"{address}": 1.0}}' if key.endswith('loras') else address
    with pytest.raises(SystemExit) as e: main(['pdd-train', '--quiet', 'output=run', f'{key}={value}'])
    told = capsys.readouterr().err
    assert e.value.code == 2 and told.startswith(f'pdd-train: {key}: ') and told.count('\n') == 1 and 'pq9secret8z' not in told, told
    assert not list(tmp_path.iterdir())

def test_mlflow_without_a_server(tmp_path, monkeypatch):
    "A file in the working folder"
    import mlflow
    from pdd_nb.config import load_config
    from pdd_nb.loggers import ExperimentLog, logged_runs
    monkeypatch.chdir(tmp_path); monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    with pytest.raises(RuntimeError):
        with ExperimentLog(tmp_path, ['mlflow'], load_config(), step=0) as t: t.log({'loss': 1.}, 1); raise RuntimeError('out of memory')
    assert (tmp_path/'mlflow.db').exists()
    run = mlflow.MlflowClient().get_run(logged_runs(tmp_path)['mlflow'])
    assert run.info.status == 'FAILED' and run.data.metrics == {'loss': 1.} and run.data.params['training.clip'] == '1.0'
    (tmp_path/'tracking.json').write_text('{"mlflow": "0123"}')
    with pytest.raises(ValueError, match='training.tracker: mlflow does not continue run 0123 .*delete .*tracking.json'): ExperimentLog(tmp_path, ['mlflow'], step=0).__enter__()

def test_what_is_needed_is_looked_for_before_training(tmp_path, monkeypatch):
    from pdd_nb.loggers import ready_loggers
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    monkeypatch.setenv('MLFLOW_TRACKING_URI', f'http://me:secret@127.0.0.1:{port}')
    with pytest.raises(ValueError, match=f'no MLflow server answers at http://127.0.0.1:{port}; start it'): ready_loggers('mlflow')
    for k in ('WANDB_MODE', 'WANDB_API_KEY'): monkeypatch.delenv(k, raising=False)
    for k in ('HOME', 'WANDB_CONFIG_DIR'): monkeypatch.setenv(k, str(tmp_path))
    with pytest.raises(ValueError, match='training.tracker: wandb: No API key configured.*WANDB_MODE=offline'): ready_loggers('wandb')
