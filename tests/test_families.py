"Each family against diffusers' own pipeline: steps, guidance, statistics, both objectives of training, and what is saved."
import json
from contextlib import contextmanager
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from torch.testing import assert_close

from pdd_nb.config import Model, Stage, Student, Teacher, load_config
from pdd_nb.families import check_steps, family_of, load_pipeline, own_images, pipeline_images, tiny_families
from pdd_nb.matching import Match, Matching
from pdd_nb.models import Networks, load_student, student_note
from pdd_nb.objective import OBJECTIVES
from pdd_nb.recorder import Recorder
from pdd_nb.sampling import initial_noise, sample_images
from pdd_nb.tiny import TINY, tiny_klein
from pdd_nb.timesteps import stage_grids
from pdd_nb.trainer import Trainer

NEW = ['FLUX.1 schnell', 'Chroma', 'Z-Image', 'FLUX.2 klein', 'Qwen-Image', 'Lumina 2', 'AuraFlow']
PROMPTS = ['a small red star', 'a large blue circle above a star']

def make(name): return tiny_families([name])[name]

def noise_of(f, n=2): return torch.randn(n, *f.shape, generator=torch.Generator().manual_seed(0))

def refused(call, *args, says, **kw):
    "A `ValueError` of one line that says so"
    with pytest.raises(ValueError) as e: call(*args, **kw)
    assert '\n' not in str(e.value) and says in str(e.value), str(e.value)

# ---- training

class Short(Match):
    "Matching with a short head start"
    settings = Matching(head_start=2, levels=8, lr=5e-3)

@pytest.fixture
def quick(monkeypatch):
    "A short form of matching, and no plots"
    monkeypatch.setitem(OBJECTIVES, 'matching', Short)
    monkeypatch.setattr(Recorder, 'plots', lambda *a, **kw: None)

def small(f, folder, *more):
    "A run of some updates on a saved pipeline"
    values = {'model.teacher.name': folder/'teacher', 'model.teacher.resolution': f.resolution, 'model.teacher.num_inference_steps': 4,
              'model.teacher.guidance_scale': 3 if f.guidable else 1, 'model.student.num_inference_steps': 2, 'model.student.lora_rank': 4,
              'training.batch_size': 2, 'training.validate_every': 2, 'training.lr': 5e-3, 'training.lr_warmup': 0, 'training.ema': 0,
              'data.train_size': 2, 'data.valid_size': 2, 'curriculum.num_regions': 2, 'curriculum.update_interval': 2,
              'evaluation.prompts': 0, 'device': 'cpu', 'threads': 1, 'output': folder/'run'}
    return load_config('default', *[f'{k}={v}' for k, v in values.items()], *more)

def by_diffusers_alone(run, f, prompts, noise):
    "Images of a student that diffusers loads from the teacher and the run's folder"
    folder, note = student_note(run)
    pipe = DiffusionPipeline.from_pretrained(note['teacher'])
    pipe.load_lora_weights(folder)
    kind = json.loads((folder/'scheduler'/'scheduler_config.json').read_text(encoding='utf-8'))['_class_name']
    pipe.scheduler = getattr(diffusers, kind).from_pretrained(folder/'scheduler')
    pipe.set_progress_bar_config(disable=True)
    options = dict(num_inference_steps=note['num_inference_steps'], **f.scale_option(note['guidance_scale']), output_type='pt')
    return pipe(prompt=list(prompts), latents=f.pack(noise), height=f.resolution, width=f.resolution, **options).images

@pytest.mark.parametrize('name', NEW)
def test_trained_by_both_objectives_saved_and_reloaded_by_diffusers(name, quick, tmp_path):
    f = make(name)
    f.pipe.save_pretrained(tmp_path/'teacher')
    t = Trainer(small(f, tmp_path), quiet=True, stages=[Stage('halving', 4, 2, 4), Stage('matching', 2, 2, 4)])
    run = t.run()
    losses = [m['val_loss'] for m in t.recorder.metrics if m['stage'] == 0 and 'val_loss' in m]
    assert losses[-1] < losses[0]
    assert all(p.abs().max() > 0 for k, p in t.nets.weights().items() if 'lora_B' in k)
    note = student_note(run)[1]
    assert note['guidance_scale'] == f.unguided
    noise = initial_noise(f.shape, range(2))
    ours = sample_images(load_student(run), PROMPTS, 2, note['guidance_scale'], resolution=f.resolution)
    assert_close(ours, by_diffusers_alone(run, f, PROMPTS, noise), rtol=0, atol=1e-5)
    base = sample_images(f.pipe, PROMPTS, 2, note['guidance_scale'], resolution=f.resolution)
    assert (ours - base).abs().max() > 1e-3

# ---- steps, guidance and statistics

def changed(f, **methods):
    "The family with some of its methods replaced"
    return type('Changed', (type(f),), methods)(f.pipe, 'changed', f.resolution)

def negated(self, *args, **kw): return -super(type(self), self).predict(*args, **kw)

def reversed_time(self, net, x, t, *args, **kw): return super(type(self), self).predict(net, x, 1000 - t, *args, **kw)

def one_less(self, u, c, scale): return super(type(self), self).guide(u, c, scale - 1)

def flipped(self, z): return super(type(self), self).to_vae(z).flip(1)

@pytest.mark.parametrize('name', TINY)
def test_two_steps_are_the_pipelines_and_a_changed_convention_is_refused(name):
    f = make(name)
    scale = 3. if f.guidable else f.unguided
    check_steps(f, f.unguided)
    check_steps(f, scale)
    wrong = [dict(predict=negated), dict(predict=reversed_time), dict(to_vae=flipped)]
    if f.guidable and not f.takes_guidance():
        wrong.append(dict(guide=one_less))
    for methods in wrong:
        refused(check_steps, changed(f, **methods), scale, says='this variant is not understood')

@pytest.mark.parametrize('name', TINY)
def test_grids_of_half_the_steps_nest_and_diffusers_walks_them(name):
    f = make(name)
    noise = noise_of(f, 1)
    for fine, coarse in stage_grids(f.grid, 16, 2):
        assert_close(fine.t[::2], coarse.t, rtol=0, atol=0)
    for n in (3, 5):
        assert_close(own_images(f, PROMPTS[:1], noise, n, f.unguided), pipeline_images(f, PROMPTS[:1], noise, n, f.unguided),
                     rtol=0, atol=1e-4)

@pytest.mark.parametrize('name', NEW)
def test_a_text_is_encoded_alone_as_it_is_among_others(name):
    f = make(name)
    alone, among = f.encode(PROMPTS[:1]), f.encode(PROMPTS)
    for k, v in alone.items():
        assert_close(among[k][:1], v, rtol=1e-5, atol=1e-6)
    a, b = [own_images(f, texts, noise_of(f, len(texts)), 1, f.unguided) for texts in (PROMPTS[:1], PROMPTS)]
    assert_close(b[:1], a, rtol=1e-4, atol=1e-4)

@pytest.mark.parametrize('name', ['Chroma', 'Z-Image', 'FLUX.2 klein', 'Qwen-Image', 'Lumina 2', 'AuraFlow'])
def test_statistics_of_the_latents_are_the_pipelines(name):
    "What the pipeline gives to the VAE for latents is what `to_vae` says, and `from_vae` is its inverse"
    f = make(name)
    seen, decode = [], f.pipe.vae.decode
    def spy(z, **kw):
        seen.append(z)
        return decode(z, **kw)
    f.pipe.vae.decode = spy
    for images in (own_images, pipeline_images):
        images(f, PROMPTS[:1], noise_of(f, 1), 1, f.unguided)
    ours, theirs = seen
    assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    z = torch.randn(1, *f.shape)
    assert_close(f.from_vae(f.to_vae(z)), z, rtol=1e-4, atol=1e-4)

@pytest.mark.parametrize('name, scale, says', [
    ('FLUX.1 schnell', 3., 'model.teacher.guidance_scale: this FluxPipeline has no guidance; expected 1, got 3'),
    ('SD 3', .5, 'model.teacher.guidance_scale: expected at least 1, which is none'),
    ('Z-Image', -1., 'model.teacher.guidance_scale: expected at least 0, which is none')])
def test_guidance_that_the_pipeline_does_not_know(name, scale, says):
    refused(Networks, make(name), Model(Teacher(guidance_scale=scale)), says=says)

def test_a_distilled_klein_has_no_guidance():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        f = family_of(tiny_klein(is_distilled=True), 'klein', 16)
    check_steps(f, 1.)
    refused(f.check_guidance, 4., 4., says='this Flux2KleinPipeline has no guidance')

@pytest.mark.parametrize('name', ['Z-Image', 'Qwen-Image', 'Lumina 2'])
def test_guided_prediction_of_the_networks_is_the_pipelines(name):
    f = make(name)
    null, cond, noise = f.null(), f.encode(PROMPTS), noise_of(f)
    nets = Networks(f, Model(Teacher(guidance_scale=3.), Student(lora_rank=2)), null)
    t = torch.full((2,), 1000.)
    guided = nets.predict('base', noise, t, cond)[0]
    c, u = [f.predict(f.net, noise, t, k) for k in (cond, {k: v.expand(2, *v.shape[1:]) for k, v in null.items()})]
    assert_close(guided, f.guide(u, c, torch.full((2,), 3.)), rtol=1e-4, atol=1e-5)
    assert (guided - (u + 3*(c - u))).abs().max() > 1e-5      # not the common convention

@pytest.mark.parametrize('name', NEW)
def test_gradients_are_the_same_with_checkpointing(name):
    f = make(name)
    cond, noise = f.encode(PROMPTS), noise_of(f)
    nets = Networks(f, Model(Teacher(guidance_scale=f.unguided), Student(lora_rank=2)))
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            nets.network('student').enable_gradient_checkpointing()
        nets.predict('student', noise, torch.full((2,), 500.), cond)[0].square().mean().backward()
        found.append({k: p.grad.clone() for k, p in nets.weights().items()})
        for p in nets.weights().values():
            p.grad = None
    for k, g in found[0].items():
        assert_close(found[1][k], g, rtol=1e-4, atol=1e-8)

def test_half_precision_is_held_to_the_pipeline_too():
    for name in ('Z-Image', 'Qwen-Image', 'FLUX.2 klein'):
        f = make(name)
        f.pipe.to(torch.bfloat16)
        check_steps(f, 3.)
        refused(check_steps, changed(f, predict=negated), 3., says='this variant is not understood')
