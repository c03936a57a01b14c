"Images that are not square, and of several sizes: cut out, encoded, trained on, drawn, evaluated and planned."
import json

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch.testing import assert_close

from pdd_nb.config import Model, Stage, Student, Teacher, load_config
from pdd_nb.data import Item, SceneItems, cut_out, prepare
from pdd_nb.evaluation import evaluate
from pdd_nb.families import check_teacher, family_of, own_images, tiny_families
from pdd_nb.models import Networks, load_student, student_note
from pdd_nb.plan import plan, plan_text
from pdd_nb.recorder import Recorder
from pdd_nb.sampling import initial_noise, sample_images
from pdd_nb.trainer import Trainer

@pytest.mark.parametrize('given', ['[24]', '[24, 16, 8]', '[24, 15]', '[24, 0]', 'true', '-8', '[[24, 16], 16]', '[[24, 16], [24, 16]]', '[]', 'wide'])
def test_what_is_no_resolution(given):
    with pytest.raises(ValueError) as e: load_config('default', f'model.teacher.resolution={given}')
    assert str(e.value).startswith('model.teacher.resolution: expected ') and '\n' not in str(e.value)

@pytest.mark.parametrize('size, box', [((300, 100), (0, 0, 100, 100)), ((100, 300), (0, 0, 150, 100))])
def test_an_image_is_scaled_until_it_covers_the_resolution(size, box):
    im = Image.new('RGB', size)
    wide, ids = cut_out(im, [48, 32], top=0, left=0)
    s = max(48/size[0], 32/size[1])
    assert wide.size == (48, 32) and ids == (size[1], size[0], 0, 0, 32, 48)
    assert cut_out(im, [48, 32], top=1, left=1)[1][2:4] == (round(size[1]*s) - 32, round(size[0]*s) - 48)

def test_a_scene_is_stretched():
    scene = SceneItems(1, size=[24, 16])[0]
    image, ids, _ = prepare(scene, [24, 16])
    assert image.shape == (3, 16, 24) and ids == (16, 24, 0, 0, 16, 24)
    assert_close(image.mean((1, 2)), scene.data.mean((1, 2)), rtol=0, atol=.01)

def settings(folder, name, *more):
    "A run of some updates on a tiny pipeline"
    values = {'model.teacher.name': folder/name, 'model.teacher.num_inference_steps': 4, 'model.student.num_inference_steps': 2,
              'model.student.lora_rank': 2, 'training.batch_size': 2, 'training.steps': 4, 'data.valid_size': 4,
              'curriculum.num_regions': 2, 'evaluation.prompts': 4, 'evaluation.reference': 4, 'device': 'cpu', 'threads': 1,
              'distillation.matching.head_start': 2, 'distillation.matching.noise_levels': 4, 'output': folder/'run'}
    return load_config('halving', *[f'{k}={v}' for k, v in values.items()], *more)

@pytest.fixture
def quick(monkeypatch):
    "No plots"
    monkeypatch.setattr(Recorder, 'plots', lambda *a, **kw: None)

def pictures(folder):
    "Nine pictures, five of them upright, with captions"
    folder.mkdir()
    for k, size in enumerate([(40, 90), (90, 40), (32, 48), (24, 16), (16, 24), (48, 36), (36, 48), (64, 32), (40, 80)]):
        Image.effect_noise(size, 50 + k).convert('RGB').save(folder/f'{k}.png')
        (folder/f'{k}.txt').write_text('a small red star', encoding='utf-8')

def test_sdxl_learns_from_pictures_of_two_sizes(quick, tmp_path):
    tiny_families(['SDXL'])['SDXL'].pipe.save_pretrained(tmp_path/'sdxl')
    pictures(tmp_path/'pictures')
    sizes = [[16, 24], [24, 16]]
    cfg = settings(tmp_path, 'sdxl', f"data.source={tmp_path/'pictures'}", 'data.min_side=16', f'model.teacher.resolution={sizes}')
    t = Trainer(cfg, quiet=True)
    run, feeds = t.run(), t.feeds
    assert [[len(feed) for feed in side.feeds.values()] for side in (feeds.train, feeds.valid)] == [[3, 2], [2, 2]]
    assert feeds.train.conditions(torch.arange(2))['time_ids'].tolist() == [[90, 40, 6, 0, 24, 16], [48, 32, 0, 0, 24, 16]]
    assert feeds.train.conditions(torch.tensor([3]))['time_ids'].tolist() == [[40, 90, 0, 6, 16, 24]]
    draws = [t.objective.draw(step, 2) for step in range(20)]
    assert {d.noise.shape for d in draws} == {(2, 4, 12, 8), (2, 4, 8, 12)}
    assert all(d.noise.shape[1:] == t.family.of_each_size()[int(min(d.items) > 2)].shape for d in draws)
    assert student_note(run)[1]['resolution'] == sizes
    models = dict(student=(load_student(run), 2, 1.))
    assert evaluate(models, cfg.evaluation, resolution=sizes)['protocol']['resolution'] == sizes
    assert '16 x 24, 24 x 16 pixels' in plan_text(plan(cfg))

def test_the_negative_prompt_has_the_size_of_the_images():
    f = tiny_families(['SDXL'])['SDXL']
    f = family_of(f.pipe, 'sdxl', [[24, 16], [16, 32]])
    nets = Networks(f, Model(Teacher(guidance_scale=3.), Student(lora_rank=2)), f.null())
    for one in f.of_each_size():
        x, cond, t = torch.randn(1, *one.shape), one.encode(['a star']), torch.full((1,), 900.)
        u, c = [f.predict(f.net, x, t, given) for given in (one.null(), cond)]
        assert_close(nets.predict('base', x, t, cond)[0], u + 3*(c - u), rtol=1e-4, atol=1e-5)

def test_a_size_that_the_network_does_not_take_is_refused_before_training():
    f = tiny_families(['SD 3'])['SD 3']
    with pytest.raises(ValueError) as e: check_teacher(family_of(f.pipe, 'sd3', [[16, 16], [48, 16]]), 3.)
    assert 'model.teacher.name: sd3 cannot draw an image of 48 x 16 pixels' in str(e.value)

@pytest.mark.parametrize('name, size, line', [('AuraFlow', [32, 16], ''), ('AuraFlow', [36, 16], 'cannot draw an image of 36 x 16 pixels (positions end at a side of 32 pixels)'),
                                              ('Z-Image', [256, 16], 'cannot draw an image of 256 x 16 pixels'), ('Lumina 2', [1024, 16], 'cannot draw an image of 1024 x 16 pixels')])
def test_a_side_beyond_the_positions_of_a_transformer_is_refused(name, size, line):
    "Those of AuraFlow would be taken from elsewhere, without an error"
    f = tiny_families([name])[name]
    def check(): check_teacher(family_of(f.pipe, name, size), f.unguided)
    if not line: return check()
    with pytest.raises(ValueError) as e: check()
    assert line in str(e.value) and '\n' not in str(e.value)

def dynamic_sd3():
    "Stable Diffusion 3 with a shift that depends on the size"
    f = tiny_families(['SD 3'])['SD 3']
    f.pipe.scheduler = FlowMatchEulerDiscreteScheduler.from_config(f.pipe.scheduler.config, use_dynamic_shifting=True)
    return f

@pytest.mark.parametrize('make', [dynamic_sd3, lambda: tiny_families(['FLUX.1'])['FLUX.1'], lambda: tiny_families(['FLUX.2 klein'])['FLUX.2 klein']],
                         ids=['SD 3', 'FLUX.1', 'FLUX.2 klein'])
def test_the_saved_scheduler_is_right_for_each_size(make, tmp_path):
    "FLUX's has a shift for each size; those with a fixed shift keep that of the first size, on whose grid all sizes are trained"
    f = make()
    f = family_of(f.pipe, 'two sizes', [[16, 16], [32, 24]])
    f.scheduler().save_pretrained(tmp_path)
    saved = type(f.scheduler()).from_pretrained(tmp_path)
    scale = 3. if f.guidable else f.unguided
    for one in f.of_each_size():
        noise = initial_noise(one.shape, [0])
        f.pipe.scheduler, before = saved, f.pipe.scheduler
        drawn = sample_images(f.pipe, ['a small red star'], 3, scale, resolution=one.resolution)
        f.pipe.scheduler = before
        assert_close(own_images(one, ['a small red star'], noise, 3, scale), drawn, rtol=0, atol=1e-4)

def test_flux_learns_from_prompts_at_two_sizes_by_both_objectives(quick, tmp_path):
    tiny_families(['FLUX.1'])['FLUX.1'].pipe.save_pretrained(tmp_path/'flux')
    (tmp_path/'prompts.txt').write_text('a small red star\na large blue circle\na star\n', encoding='utf-8')
    cfg = settings(tmp_path, 'flux', f"data.source={tmp_path/'prompts.txt'}", 'data.train_size=8', 'model.teacher.resolution=[[16, 16], [48, 32]]')
    t = Trainer(cfg, quiet=True, stages=[Stage('halving', 4, 2, 2), Stage('matching', 4, 2, 6)])
    run, solver = t.run(), t.objectives['halving'].teacher
    shapes = {}
    for folder in (run/'trajectories').glob('4-train-*'):
        shapes[folder.name] = json.loads((folder/'index.json').read_text(encoding='utf-8'))['shape']
    assert shapes == {'4-train-16x16': [4, 8, 8], '4-train-48x32': [4, 16, 24]}
    small, large = [one.grid(4).t for one in t.family.of_each_size()]
    assert_close(solver.grid_of(torch.zeros(1, 4, 16, 24)).t, large, rtol=0, atol=0)
    assert (small[1:] != large[1:]).all()
    student = load_student(run)
    for one in t.family.of_each_size():
        drawn = sample_images(student, ['a small red star'], 2, 3., resolution=one.resolution)
        f = family_of(student, resolution=one.resolution)
        assert_close(own_images(f, ['a small red star'], initial_noise(one.shape, [0]), 2, 3.), drawn, rtol=0, atol=1e-5)
