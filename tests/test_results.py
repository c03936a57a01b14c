"What is measured and shown belongs to the student that is there, and nothing of anybody else is replaced."
import ast, json, math, os, shutil, signal
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest, torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from pdd_nb import evaluation, export, report, sampling
from pdd_nb.config import Evaluation, Model, Student, load_config, save_config
from pdd_nb.families import asset, family_of, load_pipeline
from pdd_nb.folders import only_writer
from pdd_nb.models import Networks, save_student, student_hash
from killed import killed_at

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
SETTINGS = ('device=cpu', 'model.teacher.num_inference_steps=4', 'model.student.num_inference_steps=2', 'model.student.lora_rank=2',
            'evaluation.prompts=4', 'evaluation.batch_size=2', 'evaluation.reference=16', 'evaluation.replicates=4', 'data.valid_size=8', 'curriculum.num_regions=2')

def untrained(folder, seed):
    "A run whose student has random weights"
    nets = Networks(family_of(load_pipeline(), 'embedded'), Model(student=Student(lora_rank=2)))
    for p in nets.weights().values(): p.data = .05*torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
    save_student(folder/'student', nets, 2)
    save_config(load_config('halving', f'output={folder}', *SETTINGS), folder/'config.yaml')
    return folder

@pytest.fixture(scope='module')
def evaluated(tmp_path_factory):
    "A run with its evaluation; another student of the same teacher"
    d = tmp_path_factory.mktemp('runs')
    one, two = untrained(d/'one', 1), untrained(d/'two', 2)
    evaluation.evaluate_run(one, load_config(one/'config.yaml'), progress=False)
    return one, two

@pytest.fixture
def run(evaluated, tmp_path): return shutil.copytree(evaluated[0], tmp_path/'run')

def nothing_is_loaded(monkeypatch):
    "From now on, loading a model is an error"
    def fail(*a, **k): raise AssertionError('a model was loaded')
    for module in (sampling, evaluation, report, export): monkeypatch.setattr(module, 'load_student', fail)
    for module in (evaluation, report): monkeypatch.setattr(module, 'few_step_teacher', fail)

def replace_student(run, other):
    shutil.rmtree(run/'student')
    shutil.copytree(other/'student', run/'student')

# figures of another student

def test_an_evaluation_names_its_student(evaluated):
    one, two = evaluated
    assert json.loads((one/'evaluation.json').read_text(encoding='utf-8'))['student'] == student_hash(one) != student_hash(two)
    r = report.read_run(one, 'one')
    assert r['result'] and r['grid'] == one/'grid.png' and r['remark'] == ''

def test_nothing_shows_the_evaluation_of_another_student(run, evaluated):
    replace_student(run, evaluated[1])
    r = report.read_run(run, 'run')
    assert r['result'] is None and r['grid'] is None
    assert r['remark'] == f'run has an evaluation of another student; evaluate again: pdd-evaluate --checkpoint {run}'
    s = export.read_student(run, {}, False)
    assert s.result is None and s.grid is None

def test_an_evaluation_without_a_student_is_not_shown(run):
    res = json.loads((run/'evaluation.json').read_text(encoding='utf-8'))
    res.pop('student')
    (run/'evaluation.json').write_text(json.dumps(res), encoding='utf-8')
    r = report.read_run(run, 'run')
    assert r['result'] is None and 'does not name its student; evaluate again' in r['remark']

def test_an_interrupted_evaluation_is_resumed_for_its_student_only(tmp_path):
    p, pipe = Evaluation(prompts=4, reference=8, replicates=2), SimpleNamespace()
    identity = dict(student='a', protocol={}, prompts='', models={})
    score = SimpleNamespace(state_dict=lambda: dict(n=torch.ones(1)), load_state_dict=lambda d: None)
    evaluation._save_progress(tmp_path/'e', identity, {'student': score}, 2)
    assert evaluation._resume(tmp_path/'e', identity, {'student': score}) == 2
    assert evaluation._resume(tmp_path/'e', identity | dict(student='b'), {'student': score}) == 0

def test_an_export_has_no_figures_of_another_student(run, evaluated, tmp_path, monkeypatch):
    replace_student(run, evaluated[1])
    monkeypatch.setattr(export, 'run_card', lambda folder, places: {'image.png': drawn[0]})
    drawn, image_of = [], export._image_of
    monkeypatch.setattr(export, '_image_of', lambda *a: drawn.append(image_of(*a)) or drawn[0])
    out = export.export(run, tmp_path/'out')
    card = (out/'README.md').read_text(encoding='utf-8')
    assert 'Not evaluated.' in card and 'grid.png' not in card
    assert not (out/'evaluation.json').exists() and not (out/'grid.png').exists()

# reference images and prompts

def pictures(d, n=6, **kinds): # name of a subfolder -> function that saves an image
    ims = [sampling.to_pil(im) for im in evaluation.draw_scenes(evaluation.sample_scenes(n, seed=3), 3)]
    for kind, save in kinds.items():
        (d/kind).mkdir()
        for k, im in enumerate(ims): save(im, d/kind/f'{k:02}.png')

def moments_of(folder, n):
    look = evaluation.features()
    m = evaluation.Moments(look.num_features, 0, second=True)
    m.update(range(n), look(torch.cat(list(evaluation.real_pictures(folder, n, 64)))))
    return m

def test_fid_of_a_set_to_itself_saved_in_other_ways_is_zero(tmp_path):
    import numpy as np
    def turned(im, p):
        e = Image.Exif()
        e[274] = 6
        im.transpose(Image.Transpose.ROTATE_90).save(p, exif=e)
    def clear(im, p):
        a = np.asarray(im.convert('RGBA')).copy()
        a[:, 32:] = (0, 0, 0, 0)
        Image.fromarray(a).save(p)
    def white(im, p):
        a = np.asarray(im).copy()
        a[:, 32:] = 255
        Image.fromarray(a).save(p)
    deep = lambda im, p: Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16)*257).save(p)
    pictures(tmp_path, 24, plain=lambda im, p: im.save(p), turned=turned, clear=clear, white=white, deep=deep, grey=lambda im, p: im.convert('L').save(p),
             tif=lambda im, p: im.save(p.with_suffix('.tif')))
    for a, b in (('plain', 'turned'), ('plain', 'tif'), ('clear', 'white'), ('grey', 'deep')):
        assert abs(evaluation.fid(moments_of(tmp_path/a, 24), moments_of(tmp_path/b, 24))[0]) < 1e-3, (a, b)

def test_a_huge_image_and_a_pipe_are_left_out_with_a_count(tmp_path, caplog):
    pictures(tmp_path, 4, real=lambda im, p: im.save(p))
    Image.new('1', (14000, 14000)).save(tmp_path/'real/000.png', optimize=True)
    os.mkfifo(tmp_path/'real/001.png')
    assert torch.cat(list(evaluation.real_pictures(tmp_path/'real', 4, 32))).shape == (4, 3, 32, 32)
    assert '2 files cannot be read and are left out' in caplog.text
    with pytest.raises(ValueError, match='evaluation.reference: expected at most the 4 images in .* that can be read, 2 cannot: .*000.png'):
        list(evaluation.real_pictures(tmp_path/'real', 5, 32))

def test_prompts_of_an_evaluation_are_read_as_those_of_training(tmp_path):
    from pdd_nb.data import read_prompts
    (tmp_path/'p.txt').write_bytes('\ufeffa red circle\r\na blue star\u2028on white\r\na green disc\r\n'.encode())
    p = Evaluation(prompts=3, prompts_from=str(tmp_path/'p.txt'))
    assert evaluation.prompts_of(p)[0] == read_prompts(tmp_path/'p.txt') == ['a red circle', 'a blue star\u2028on white', 'a green disc']
    (tmp_path/'p.txt').write_bytes(b'a\n\xff\n')
    with pytest.raises(ValueError, match='evaluation.prompts_from: .* is not UTF-8'): evaluation.prompts_of(p)

# numbers that are not finite

@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_features_that_are_not_finite_are_an_error_before_the_eigenvalues(bad, monkeypatch):
    monkeypatch.setattr(torch.linalg, 'eigvals', lambda *_: pytest.fail('the decomposition was reached'))
    m = evaluation.Moments(3, 2, second=True)
    m.update(range(4), torch.tensor([[1., 2., bad]]*4))
    good = evaluation.Moments(3, 0, second=True)
    good.update(range(4), torch.eye(4, 3))
    with pytest.raises(ValueError, match='FID: the features of the generated images are not finite'): evaluation.fid(m, good)
    with pytest.raises(ValueError, match='FID: the features of the real images are not finite'): evaluation.fid(good, m)

def test_a_model_that_draws_nan_is_named(evaluated):
    pipe = load_pipeline()
    pipe.unet.conv_out.weight.data.view(-1)[0] = math.nan
    models = {'teacher, 2 steps': (load_pipeline(), 2, 1.), 'student, 2 steps': (pipe, 2, 1.)}
    with pytest.raises(ValueError, match='evaluation: student, 2 steps draws images that are not numbers'):
        evaluation.evaluate(models, Evaluation(prompts=2, reference=16, replicates=4))

def test_a_student_of_nan_draws_no_file(run, tmp_path):
    from safetensors.torch import load_file, save_file
    weights = run/'student/pytorch_lora_weights.safetensors'
    save_file({k: torch.full_like(v, math.nan) for k, v in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match='checkpoint: '): sampling.text_to_image(run, 'a star', tmp_path/'a.png')
    assert not list(tmp_path.glob('a.png'))

# whole models

@pytest.mark.parametrize('change', ['missing', 'shape', 'unknown'])
def test_a_clip_must_be_whole(change, tmp_path):
    from safetensors.torch import load_file, save_file
    d = shutil.copytree(asset('clip'), tmp_path/'clip')
    weights = d/'model.safetensors'
    ts = load_file(weights)
    name = next(k for k in ts if 'visual_projection' in k)
    if change == 'missing': ts.pop(name)
    if change == 'shape': ts[name] = ts[name][:-1].contiguous()
    if change == 'unknown': ts['text_model.extra'] = torch.zeros(1)
    save_file(ts, weights, dict(format='pt'))
    with pytest.raises(ValueError, match='evaluation.clip: .*(visual_projection|text_model.extra)'): evaluation.Clip(str(d))

def test_a_clip_that_was_cut_short_is_one_line(tmp_path):
    d = shutil.copytree(asset('clip'), tmp_path/'clip')
    (d/'model.safetensors').write_bytes((d/'model.safetensors').read_bytes()[:1000])
    with pytest.raises(ValueError, match='evaluation.clip: cannot load') as e: evaluation.Clip(str(d))
    assert '\n' not in str(e.value)

def test_a_mistake_in_the_protocol_is_told_before_a_model_is_loaded(run, monkeypatch):
    nothing_is_loaded(monkeypatch)
    for key, value in dict(prompts_from='/is/not/there.txt', reference_from='/is/not/there', features='/is/not/there', clip='./is/not/there').items():
        cfg = load_config(run/'config.yaml', f'evaluation.{key}={value}')
        with pytest.raises(ValueError, match=f'evaluation.{key}'): evaluation.evaluate_run(run, cfg, progress=False)

# saving

def test_figures_outlive_a_disk_that_is_full(run, monkeypatch):
    figures = dict(results={'teacher': dict(fid=1.), 'student': dict(fid=2.)})
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(evaluation, 'save_whole', full)
    with pytest.raises(ValueError, match=r'evaluation.json: cannot be written \(No space left on device\).*"fid": 2.0'): evaluation._save_evaluation(run, figures)

def test_figures_are_logged_before_anything_is_saved(run, monkeypatch, caplog):
    figures = json.loads((run/'evaluation.json').read_text(encoding='utf-8'))
    monkeypatch.setattr(evaluation, '_compared', lambda *_: {})
    monkeypatch.setattr(evaluation, '_score_models', lambda *_, **k: ({}, ''))
    monkeypatch.setattr(evaluation, '_measured', lambda *_: dict(protocol={}, results=figures['results']))
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(evaluation, 'save_whole', full)
    caplog.set_level('INFO', 'pdd_nb')
    with pytest.raises(ValueError, match='cannot be written'): evaluation.evaluate_run(run, load_config(run/'config.yaml'), progress=False)
    assert evaluation.results_table(figures['results']) in caplog.text

def test_an_evaluation_replaces_no_file_of_others(run, monkeypatch):
    nothing_is_loaded(monkeypatch)
    (run/'evaluation.json').write_text('{"mine": 1}', encoding='utf-8')
    with pytest.raises(ValueError, match='in the way'): evaluation.evaluate_run(run, load_config(run/'config.yaml'), progress=False)
    assert json.loads((run/'evaluation.json').read_text(encoding='utf-8')) == dict(mine=1)

# two evaluations, and one that is killed

def forget(run):
    "A run without its evaluation"
    for name in ('evaluation.json', 'grid.png'): (run/name).unlink()
    return run

def in_child(f):
    "Run a function in a forked process; its exit status"
    pid = os.fork()
    if not pid:
        status = 1
        try: f(); status = 0
        finally: os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def test_the_second_of_two_evaluations_is_refused(run, monkeypatch):
    "And one of a run that is trained"
    nothing_is_loaded(monkeypatch)
    before = (run/'evaluation.json').read_bytes()
    def second():
        with pytest.raises(ValueError, match=f'^checkpoint: process {os.getppid()} on .* is writing to {run}; wait for its end'):
            evaluation.evaluate_run(run, load_config(run/'config.yaml'), progress=False)
    with only_writer(run): assert in_child(second) == 0
    assert (run/'evaluation.json').read_bytes() == before

def test_a_killed_evaluation_is_finished_by_the_same_command(run, evaluated, monkeypatch):
    "Killed between two batches: no half file; the batches before are not drawn again, and the figures are those of the evaluation that nothing happened to"
    score, score_models, drawn = evaluation._score_batch, evaluation._score_models, []
    monkeypatch.setattr(evaluation, '_score_models', lambda *a, **k: score_models(*a, **k, every=0.))
    forget(run)
    cfg = load_config(run/'config.yaml')
    every_model = list(evaluation._compared(run, cfg).items())
    models = dict([every_model[0], every_model[-1]])
    monkeypatch.setattr(evaluation, '_compared', lambda *_: models)                    # loaded once
    def child():
        def killed(*a, idx, **k):
            if idx.start == 2: os.kill(os.getpid(), signal.SIGKILL)
            score(*a, idx=idx, **k)
        evaluation._score_batch = killed
        evaluation.evaluate_run(run, cfg, progress=False)
    assert in_child(child) == -signal.SIGKILL
    assert not (run/'evaluation.json').exists() and not (run/'grid.png').exists() and (run/'checkpoints/evaluation/state.json').exists()
    monkeypatch.setattr(evaluation, '_score_batch', lambda *a, idx, **k: drawn.append(list(idx)) or score(*a, idx=idx, **k))
    found = evaluation.evaluate_run(run, cfg, progress=False)
    whole = json.loads((evaluated[0]/'evaluation.json').read_text(encoding='utf-8'))
    assert drawn == [[2, 3]]
    for name in models:
        figures = whole['results'][name]
        for key in figures.keys() - {'seconds_per_image', 'speedup'}: assert found['results'][name][key] == pytest.approx(figures[key], rel=1e-4, abs=1e-6, nan_ok=True), key
    assert not list((run/'checkpoints').iterdir()) and evaluation.grid_student(run/'grid.png') == student_hash(run)

def test_a_kill_while_an_evaluation_is_saved_leaves_no_half_file(run, monkeypatch):
    "At changes of the file system; the next evaluation removes what is left"
    figures, grid = json.loads((run/'evaluation.json').read_text(encoding='utf-8')), Image.new('RGB', (8, 8))
    monkeypatch.setattr(evaluation, '_compared', lambda *_: {})
    monkeypatch.setattr(evaluation, 'grid_image', lambda *_: grid)
    monkeypatch.setattr(evaluation, '_measured', lambda *_: dict(protocol=figures['protocol'], results=figures['results']))
    def done(models, p, folder, *a, **k):
        evaluation.save_state(folder, dict(next=4), **{'0': dict(n=torch.ones(1))})
        return {}, ''
    monkeypatch.setattr(evaluation, '_score_models', done)
    cfg = load_config(run/'config.yaml')
    def evaluate(): evaluation.evaluate_run(run, cfg, progress=False)
    def killed(): killed_at(n, ('replace', 'unlink', 'rmdir', 'mkdir', 'chmod', 'fsync')); evaluate()
    for n in range(0, 1000, 1 if SLOW else 4):
        forget(run)
        status = in_child(killed)
        assert status in (0, 9)
        if (run/'evaluation.json').exists(): assert json.loads((run/'evaluation.json').read_text(encoding='utf-8'))['results'] == figures['results']
        if (run/'grid.png').exists(): assert evaluation.grid_student(run/'grid.png') == student_hash(run)
        evaluate()
        assert not [p for p in run.rglob('.*') if p.name not in ('.pdd_nb.json', '.lock', '.writer')]
        if not status: break
    assert n > 10

# file names that a user gives

@pytest.mark.parametrize('name, says', [('x.txt', 'output: expected a file name that ends in'), ('x', 'output: expected a file name'), ('x'*300 + '.png', 'File name too long'),
                                        ('no/x.png', 'output: no folder'), ('folder.png', 'output: .* is a folder'), ('pipe.png', 'output: .* is not a regular file')])
def test_a_file_that_cannot_be_written_is_told_before_drawing(name, says, run, tmp_path, monkeypatch):
    nothing_is_loaded(monkeypatch)
    (tmp_path/'folder.png').mkdir()
    os.mkfifo(tmp_path/'pipe.png')
    with pytest.raises(ValueError, match=says): sampling.text_to_image(run, 'a star', tmp_path/name)

def test_home_is_expanded(run, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    sampling.text_to_image(run, 'a star', '~/star.webp', seed=2**64 - 1)
    assert Image.open(tmp_path/'star.webp').size == (64, 64) and (tmp_path/'star.webp').stat().st_mode & 0o777 == 0o644
    assert report.report_paths('~/a.html', '') == (tmp_path/'a.html', tmp_path/'a.md')

@pytest.mark.parametrize('option, says', [(dict(seed=2**64), 'seed: expected'), (dict(num_inference_steps=0), 'num_inference_steps: expected at least 1'),
                                          (dict(num_inference_steps=5000), 'num_inference_steps: expected at most'), (dict(guidance_scale=math.inf), 'guidance_scale: expected'), (dict(prompt='\udcff'), 'prompt: expected UTF-8')])
def test_an_option_that_no_pipeline_takes_is_one_line(option, says, run):
    with pytest.raises(ValueError, match=says): sampling.text_to_image(run, **{'prompt': 'a star', **option})

# other people's files

def test_a_report_replaces_reports_only(run, tmp_path, monkeypatch):
    page, tables = report.report_paths(None, run)
    page.write_text(report._page('Report: a', []), encoding='utf-8')
    tables.write_text(f'{report._MD_MARK}\n\n# Report: a', encoding='utf-8')
    assert report.report_paths(None, run) == (page, tables)
    nothing_is_loaded(monkeypatch)
    for name in ('README.md', 'INDEX.html'):
        (tmp_path/name).write_text('mine', encoding='utf-8')
        with pytest.raises(ValueError, match=f'output: .*{name} is in the way, and not a report'): report.report([run], tmp_path/Path(name).with_suffix('.html'))
        assert (tmp_path/name).read_text(encoding='utf-8') == 'mine'
    with pytest.raises(ValueError, match='output: expected a file name that ends in .html'): report.report([run], tmp_path/'a.pdf')

def test_one_broken_run_does_not_hide_the_others(run, evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(report, 'steps_grid', lambda runs, steps: Image.new('RGB', (8, 8)))
    (run/'evaluation.json').write_text('{"cut', encoding='utf-8')
    text = report.report([run, evaluated[0]], tmp_path/'a.html').with_suffix('.md').read_text(encoding='utf-8')
    assert f'run is left out: {run}/evaluation.json: not valid JSON' in text and '| student, 2 steps | 2 |' in text
    with pytest.raises(ValueError, match='evaluation.json: not valid JSON'): report.report([run])

@pytest.mark.parametrize('content', [b'[]', b'{"protocol": 1, "results": 2, "targets": 3, "fingerprint": 4}', b'\xff', b'{}'])
def test_an_evaluation_that_cannot_be_read_is_one_line(content, run):
    (run/'evaluation.json').write_bytes(content)
    with pytest.raises(ValueError, match='evaluation.json: ') as e: report.read_run(run, 'run')
    assert '\n' not in str(e.value)

def test_an_export_goes_into_no_folder_of_others(run, tmp_path, monkeypatch):
    nothing_is_loaded(monkeypatch)
    (tmp_path/'project').mkdir()
    (tmp_path/'project/README.md').write_text('how I use pdd_nb', encoding='utf-8')
    with pytest.raises(ValueError, match='project holds something else than an export'): export.export(run, tmp_path/'project')
    with pytest.raises(ValueError, match='holds a student'): export.export(run, run/'student')
    assert [p.name for p in (tmp_path/'project').iterdir()] == ['README.md']

def test_an_export_replaces_what_it_wrote_and_nobody_changed(run, tmp_path, monkeypatch):
    drawn = {}
    def write(plan, folder, output):
        (folder/'README.md').write_text(f'export {len(drawn)}', encoding='utf-8')
        (folder/'image.png').write_bytes(b'an image')
        (folder/'image.png').chmod(0o600)
        drawn[len(drawn)] = 1
    monkeypatch.setattr(export, '_write_export', write)
    monkeypatch.setenv('HOME', str(tmp_path))
    out = export.export(run, '~/out')
    assert out == tmp_path/'out' and (out/'image.png').stat().st_mode & 0o777 == 0o644 and out.stat().st_mode & 0o777 == 0o755
    (out/'notes/mine.txt').parent.mkdir()
    (out/'notes/mine.txt').write_text('mine', encoding='utf-8')
    export.export(run, out)
    assert (out/'README.md').read_text(encoding='utf-8') == 'export 1' and (out/'notes/mine.txt').read_text(encoding='utf-8') == 'mine'
    (out/'README.md').write_text('edited', encoding='utf-8')
    with pytest.raises(ValueError, match='README.md was changed since it was exported'): export.export(run, out)
    (out/'README.md').write_text('export 1', encoding='utf-8')
    (out/'grid.png').write_bytes(b'mine')
    with pytest.raises(ValueError, match='grid.png is in the way, and no export wrote it'): export.export(run, out)
    assert (out/'grid.png').read_bytes() == b'mine'

# text of users

HOSTILE = ['<script>alert(1)</script>', '<img src=x onerror=alert(1)>', '[a](javascript:alert(1)) ![b](http://x/y.png)', '``` |a|b| **bold** _x_ ~~y~~ $z$ <http://x>', '</pre></details><h1>big',
           '&lt;b&gt; \\ "quoted" \'', 'right \u202e to left \U0001f600 e\u0301 \x07\x1b[31m', "x'''+__import__('os').system('touch ran')+'''", '---', '# a', '```python', 'a star '*99]

class Tags(HTMLParser):
    "The elements, the addresses and the text of a page"
    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.text = set(), [], ''
        self.feed(page)
    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [k for k, _ in attrs if k.startswith('on')], attrs
        self.links += [v for k, v in attrs if k in ('href', 'src')]
    def handle_data(self, data): self.text += data

def rendered(text): return Tags(MarkdownIt('commonmark').enable('table').render(text))

def shown(prompt): return ' '.join(prompt.split())

@pytest.fixture
def hostile(run, tmp_path):
    "A run with the name, the negative prompt and the prompts of an enemy"
    run = run.rename(run.with_name("<script>alert(2)<!script> |x| [y](javascript:z)"))
    (tmp_path/'p.txt').write_text('\n'.join(HOSTILE), encoding='utf-8')
    cfg = load_config(run/'config.yaml', f'evaluation.prompts_from={tmp_path/"p.txt"}')
    cfg.model.teacher.negative_prompt = '\n'.join(HOSTILE)
    save_config(cfg, run/'config.yaml')
    return run

@pytest.mark.parametrize('prompt', [None, '\n'.join(HOSTILE), 'a\n```python\nimport os\nos.abort()\n```\nb'])
def test_a_card_shows_prompts_as_text(hostile, tmp_path, prompt):
    "In Markdown, in its metadata, and in its script, which is what it was"
    plan = export.plan_export([hostile], 'me/student', None, False, licence=None, prompt=prompt)
    texts = plan.texts if prompt else [*plan.texts, *HOSTILE]
    note = plan.students[0].note | dict(timesteps=[999., 499.])
    plan.students[0].note = note
    for text in texts:
        code = export.Script(plan.repo, plan.base, [note], text).text()
        card = export.card(plan.students, plan.repo, plan.base, licence=plan.licence, code=code, texts=[text, *texts])
        card.save(tmp_path/'README.md')
        assert export.card_script(tmp_path) == code
        drawn, = [c for c in ast.walk(ast.parse(code)) if isinstance(c, ast.Call) and any(k.arg == 'prompt' for k in c.keywords)]
        assert next(k.value.value for k in drawn.keywords if k.arg == 'prompt') == text
        assert not [c for c in ast.walk(ast.parse(code)) if isinstance(c, ast.Name) and c.id in ('os', '__import__')]
        assert ModelCard.load(tmp_path/'README.md').data.widget[0]['text'] == text
        page = rendered(card.text)
        assert page.tags <= {'h1', 'h2', 'p', 'img', 'pre', 'code', 'ul', 'li', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'details', 'summary'}, page.tags
        assert page.links == ['grid.png']
        for t in texts: assert shown(t) in shown(page.text), t

def test_a_report_shows_names_and_settings_as_text(hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(report, 'steps_grid', lambda runs, steps: Image.new('RGB', (8, 8)))
    shutil.rmtree(hostile/'logs', ignore_errors=True)
    page = report.report([hostile, shutil.copytree(hostile, tmp_path/'b')], tmp_path/'a.html')
    for found in (Tags(page.read_text(encoding='utf-8')), rendered(page.with_suffix('.md').read_text(encoding='utf-8'))):
        assert not found.tags & {'script', 'a', 'iframe', 'h4'} and all(v.startswith('data:image/png') for v in found.links), found.tags
        assert hostile.name in found.text
