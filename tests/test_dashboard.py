"The dashboard in a real browser: Voila serves it, Chromium opens it, buttons are pressed, sliders moved, pictures compared."
import importlib, json, os, re, shutil, signal, socket, subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path

import pytest

root = Path(__file__).parent.parent
WAIT = 180_000   # milliseconds; on a machine with nothing else to do, all of this file takes less than one minute
TINY = ['device=cpu', 'threads=1', 'model.teacher.num_inference_steps=4', 'model.student.num_inference_steps=1', 'model.student.lora_rank=4', 'training.batch_size=4', 'training.validate_every=4', 'training.checkpoint_every=1000',
        'data.train_size=16', 'data.valid_size=4', 'evaluation.prompts=0', 'curriculum.num_regions=2', 'curriculum.update_interval=2']
# what is known: Voila's template asks a server far away for icons; its JupyterLab modules are older than those of the widgets
KNOWN = re.compile(r'fontawesome|(Uns|No s)atisf(ied|ying) version .* @jupyterlab/', re.S)

def chromium():
    "The browser, by PDD_BROWSER or on the PATH"
    if path := os.environ.get('PDD_BROWSER'):
        if not Path(path).is_file(): pytest.fail(f'PDD_BROWSER: no file {path!r}; give the path of a Chromium', pytrace=False)
        return path
    for name in ('chromium', 'chromium-browser', 'google-chrome', 'chrome'):
        if path := shutil.which(name): return path
    pytest.skip('no Chromium on the PATH; install one, or set PDD_BROWSER to its path')

def needed(name):
    "A package, without which the tests are skipped; with PDD_BROWSER set, they fail"
    try: return importlib.import_module(name)
    except ModuleNotFoundError as e: (pytest.fail if os.environ.get('PDD_BROWSER') else pytest.skip)(f"{e}; pip install 'pdd_nb[dev]'")

@pytest.fixture(scope='module')
def browser():
    path = chromium()
    sync = needed('playwright.sync_api')
    with sync.sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync'])
        yield b
        b.close()

@pytest.fixture(scope='module')
def served(browser, tmp_path_factory):
    "Voila on the page of the package and on a notebook that trains: its address, and the folder of runs"
    needed('voila')
    d = tmp_path_factory.mktemp('served')
    (d/'nbs'/'runs').mkdir(parents=True); shutil.copy(root/'nbs'/'app.ipynb', d/'nbs')       # `runs` is asked for, and not this one
    code = f'''import os, time
import ipywidgets as W
from pdd_nb.config import load_config
from pdd_nb.dashboard import BackgroundRun, Dashboard
busy, said = W.Button(description='busy'), W.Label(f'process {{os.getpid()}}')
def work(_):
    said.value = 'at work'
    try: time.sleep(600)
    except KeyboardInterrupt: said.value = 'interrupted'
busy.on_click(work)
def dashboard(name, steps): return Dashboard(BackgroundRun(load_config('halving', f'output={d/'runs'}/{{name}}', f'training.steps={{steps}}', *{TINY})), every=.5)
W.VBox([busy, said, dashboard('long', 2000), dashboard('short', 4)])'''
    cell = dict(cell_type='code', id='train', execution_count=None, metadata={}, outputs=[], source=code)
    (d/'train.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)))
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {**os.environ, 'PDD_RUN': 'runs', 'PWD': str(d), 'JUPYTER_PREFER_ENV_PATH': '1', 'PYTHONPATH': os.pathsep.join([str(root), os.environ.get('PYTHONPATH', '')])}
    with open(d/'log', 'w') as log: server = subprocess.Popen([sys.executable, '-m', 'voila', d, '--no-browser', f'--port={port}', '--Voila.ip=127.0.0.1'], env=env, cwd=d, stdout=log, stderr=log)
    try:
        for _ in range(WAIT//200):
            assert server.poll() is None, (d/'log').read_text()
            try: urllib.request.urlopen(f'http://127.0.0.1:{port}/', timeout=5); break
            except (urllib.error.URLError, TimeoutError): time.sleep(.2)
        yield f'http://127.0.0.1:{port}/voila/render', d/'runs'
    finally: server.terminate(); server.wait(30)

@pytest.fixture
def page(browser):
    "A page whose console stays silent but for what is known"
    page, said = browser.new_page(viewport=dict(width=1200, height=1500)), []
    page.on('console', lambda m: m.type in ('error', 'warning') and said.append(f"{m.text} {m.location.get('url')}"))
    page.on('pageerror', lambda e: said.append(str(e)))
    page.set_default_timeout(WAIT)
    yield page
    page.close()
    assert not [s for s in said if not KNOWN.search(s)]

def reads(page, text): page.wait_for_function('t => document.body.innerText.includes(t)', arg=text)
def button(page, name): return page.locator('button:visible', has_text=re.compile(f'^{name}$'))
def picture(page, k=0):
    "What the k-th visible picture of the page looks like"
    im = page.locator('img.widget-image:visible').nth(k)
    im.wait_for(); page.wait_for_function('e => e.complete && e.naturalWidth > 100', arg=im.element_handle())
    return im.screenshot()
def changes(page, before, k=0):
    for _ in range(WAIT//200):
        if (now := picture(page, k)) != before: return now
        page.wait_for_timeout(200)
    raise AssertionError('the picture stays the same')
def step(page): return int(re.search(r'step (\d+)', page.inner_text('body'))[1])

def test_train_pause_interrupt_stop(page, served):
    "A run is started, outlives an interrupt of the kernel, is paused, stopped, and taken up again; another one ends"
    url, runs = served
    page.goto(f'{url}/train.ipynb'); reads(page, 'long · not started')
    kernel = int(re.search(r'process (\d+)', page.inner_text('body'))[1])
    press = lambda name, k=0: button(page, name).nth(k).click()
    assert button(page, 'pause').first.is_disabled()
    press('start'); reads(page, 'long · training · stage'); loss = picture(page)
    press('busy'); reads(page, 'at work'); at = step(page)
    os.kill(kernel, signal.SIGINT)                                    # what the stop button of a notebook does
    reads(page, 'interrupted')
    while step(page) == at: page.wait_for_timeout(200)
    loss = changes(page, loss)
    press('pause'); reads(page, 'long · paused'); at = step(page)
    page.wait_for_timeout(1000); assert step(page) == at
    press('start'); changes(page, loss)
    press('stop'); reads(page, 'long · stopped')
    saved = json.loads((runs/'long/checkpoints/last/state.json').read_text())['step']
    assert at < saved == step(page)
    press('start'); reads(page, 'long · training')
    while step(page) == saved: page.wait_for_timeout(200)
    press('stop'); reads(page, 'long · stopped')
    press('start', 1); reads(page, 'short · finished')

def test_page(page, served):
    "Training with its slider, a run that grows, trajectories with theirs, comparisons"
    url, runs = served
    assert (runs/'short/student/student.json').exists()                # by the test before
    (runs/'grow').mkdir(); shutil.copy(runs/'short/config.yaml', runs/'grow')
    lines = (runs/'short/metrics.jsonl').read_text().splitlines(True); half = len(lines)//2
    (runs/'grow/metrics.jsonl').write_text(''.join(lines[:half]) + lines[half][:9])
    (runs/'matrix').mkdir(); shutil.copy(root/'nbs/results/mixture.json', runs/'matrix/results.json')
    page.goto(f'{url}/nbs/app.ipynb?run=grow'); reads(page, 'grow · unfinished')
    was = picture(page)
    with open(runs/'grow/metrics.jsonl', 'a') as f: f.write(lines[half][9:] + ''.join(lines[half + 1:]))
    changes(page, was)                                                # nobody asked it to look
    page.locator('select:visible').first.select_option('short'); reads(page, 'short · finished')
    was = picture(page, 4); page.locator('.noUi-handle:visible').first.press('ArrowLeft'); changes(page, was, 4)
    tab = lambda name: page.locator('.lm-TabBar-tab', has_text=name).click()
    tab('Trajectory'); reads(page, 'part most'); was = picture(page), picture(page, 1)
    page.locator('.noUi-handle:visible').first.press('ArrowRight'); seed1 = changes(page, was[0]); assert changes(page, was[1], 1)
    button(page, '4').click(); four = changes(page, seed1)
    page.locator('input[type=text]:visible').last.fill('a red circle above a blue star'); page.keyboard.press('Enter'); reads(page, 'a red circle above a blue star ·'); changes(page, four)
    tab('Comparison'); reads(page, 'lowest of the last stage'); was = picture(page)
    page.locator('select:visible').last.select_option('val_loss'); changes(page, was); reads(page, 'val_loss, lowest of the last stage')
    tab('matrix'); reads(page, 'speed-up, val_divergence'); was = picture(page)
    button(page, 'loss').click(); changes(page, was)
    page.set_viewport_size(dict(width=400, height=900))
    assert page.evaluate('document.documentElement.scrollWidth') <= 400     # nothing sticks out on a phone

def test_a_long_run_opens_soon(tmp_path):
    "100,000 readings: 1.5 s of processor time, twice that beside other work, 16 s when each reading was drawn"
    from pdd_nb.config import load_config, save_config
    from pdd_nb.dashboard import Dashboard
    save_config(load_config('default'), tmp_path/'config.yaml')
    values = dict(stage=0, steps=16, loss=.1, output=.05, feature=.01, lr=1e-3) | {f'{k}/{r}': .1 for k in ('divergence', 'spread', 'rate', 'weight') for r in range(3)}
    validation = dict(stage=0, steps=16, val_loss=.1, val_divergence=.2)
    lines = [json.dumps(dict(step=k, **(validation if k % 5 == 4 else values))) for k in range(100_000)]
    (tmp_path/'metrics.jsonl').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        shown = Dashboard(tmp_path)
        seconds.append(time.process_time() - begun)
        shown.close()
        assert all(f.value for f in shown.figures.values()) and len(shown.metrics) == 100_000
    assert min(seconds) < 5, seconds
