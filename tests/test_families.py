"""Each family against diffusers' own pipeline: conditions, steps, guidance, statistics, gradients.

One short test of every family; with NB_FLAGS=slow, all tests of all families."""
import json, os

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from peft import PeftModel
from torch.testing import assert_close

from pdd_nb.config import Model, Student, Teacher
from pdd_nb.families import check_steps, family_of, own_images, pipeline_images, tiny_families
from pdd_nb.models import Networks, save_student
from pdd_nb.tiny import TINY, tiny_klein
from pdd_nb.timesteps import stage_grids

NEW = ['FLUX.1 schnell', 'Chroma', 'Z-Image', 'FLUX.2 klein', 'FLUX.2 dev', 'Qwen-Image', 'Lumina 2', 'AuraFlow']
PROMPTS = ['a small red star', 'a large blue circle above a star']

slow = pytest.mark.skipif('slow' not in os.environ.get('NB_FLAGS', ''), reason='slow')

def of(names, kept):
    "Families as parameters; without NB_FLAGS=slow only one of them"
    return pytest.mark.parametrize('name', [pytest.param(k, marks=[] if k == kept else slow) for k in names])

def make(name): return tiny_families([name])[name]

def wide(name):
    "A family whose images are twice as wide as high"
    f = make(name)
    return family_of(f.pipe, name, [2*f.resolution, f.resolution])

def noise_of(f, n=2): return torch.randn(n, *f.shape, generator=torch.Generator().manual_seed(0))

def refused(call, *args, says, **kw):
    "A `ValueError` of one line that says so"
    with pytest.raises(ValueError) as e: call(*args, **kw)
    assert '\n' not in str(e.value) and says in str(e.value), str(e.value)

# ---- every family

def student_of(f, folder):
    "Save the pipeline, and a student of one step with random adapters"
    f.pipe.save_pretrained(folder/'teacher')
    f = family_of(f.pipe, folder/'teacher', f.resolution)
    nets = Networks(f, Model(Teacher(guidance_scale=f.unguided), Student(lora_rank=2)))
    g = torch.Generator().manual_seed(1)
    for w in nets.weights().values():
        w.data.copy_(.1*torch.randn(w.shape, generator=g))
    save_student(folder/'student', nets, 1)
    nets.network('student')
    return f

def by_diffusers_alone(f, folder, noise):
    "Image of a student that diffusers loads"
    pipe = DiffusionPipeline.from_pretrained(f.name)
    if f.by_peft:
        pipe.transformer = PeftModel.from_pretrained(pipe.transformer, folder)
    else:
        pipe.load_lora_weights(folder)
    kind = json.loads((folder/'scheduler'/'scheduler_config.json').read_text(encoding='utf-8'))['_class_name']
    pipe.scheduler = getattr(diffusers, kind).from_pretrained(folder/'scheduler')
    options = dict(num_inference_steps=1, **f.scale_option(f.unguided), output_type='pt', **f.call)
    return pipe(prompt=PROMPTS[:1], latents=f.pack(noise), **f.size, **options).images

@pytest.mark.parametrize('name', TINY)
def test_conditions_a_step_and_a_saved_student_are_the_pipelines(name, tmp_path):
    "Of images that are not square, where rows and columns cannot be mixed up"
    f = wide(name)
    noise, scale = noise_of(f, 1), 3. if f.guidable else f.unguided
    base = own_images(f, PROMPTS[:1], noise, 1, scale)
    assert_close(base, pipeline_images(f, PROMPTS[:1], noise, 1, scale), rtol=0, atol=5e-4)         # zero SNR: sigma is 4096
    f = student_of(f, tmp_path)
    ours = own_images(f, PROMPTS[:1], noise, 1, f.unguided)
    assert_close(ours, by_diffusers_alone(f, tmp_path/'student', noise), rtol=0, atol=5e-4)
    assert (ours - base).abs().max() > 1e-3

# ---- steps, guidance and statistics

def changed(f, **methods):
    "The family with some of its methods replaced"
    return type('Changed', (type(f),), methods)(f.pipe, 'changed', f.resolution)

def negated(self, *args, **kw): return -super(type(self), self).predict(*args, **kw)

def reversed_time(self, net, x, t, *args, **kw): return super(type(self), self).predict(net, x, 1000 - t, *args, **kw)

def one_less(self, u, c, scale): return super(type(self), self).guide(u, c, scale - 1)

def flipped(self, z): return super(type(self), self).to_vae(z).flip(1)

@of(TINY, 'Z-Image')
def test_two_steps_are_the_pipelines_and_a_changed_convention_is_refused(name):
    f = make(name)
    scale = 3. if f.guidable else f.unguided
    check_steps(f, scale)
    noise = noise_of(f, 1)
    right = pipeline_images(f, PROMPTS[:1], noise, 2, scale)
    assert_close(own_images(f, PROMPTS[:1], noise, 2, scale), right, rtol=0, atol=1e-4)
    wrong = [dict(predict=negated), dict(predict=reversed_time), dict(to_vae=flipped)]
    if f.guidable and not f.takes_guidance():
        wrong.append(dict(guide=one_less))
    for methods in wrong:
        assert (own_images(changed(f, **methods), PROMPTS[:1], noise, 2, scale) - right).abs().mean() > 1e-4
    refused(check_steps, changed(f, predict=negated), scale, says='this variant is not understood')

@of(TINY, 'FLUX.2 klein')
def test_grids_of_half_the_steps_nest_and_diffusers_walks_them(name):
    f = make(name)
    noise = noise_of(f, 1)
    for fine, coarse in stage_grids(f.grid, 16, 2):
        assert_close(fine.t[::2], coarse.t, rtol=0, atol=0)
    for n in (3, 5):
        assert_close(own_images(f, PROMPTS[:1], noise, n, f.unguided), pipeline_images(f, PROMPTS[:1], noise, n, f.unguided),
                     rtol=0, atol=1e-4)

@of(NEW, 'Z-Image')
def test_a_text_is_encoded_alone_as_it_is_among_others(name):
    f = make(name)
    alone, among = f.encode(PROMPTS[:1]), f.encode(PROMPTS)
    for k, v in alone.items():
        assert_close(among[k][:1], v, rtol=1e-5, atol=1e-6)
    a, b = [own_images(f, texts, noise_of(f, len(texts)), 1, f.unguided) for texts in (PROMPTS[:1], PROMPTS)]
    assert_close(b[:1], a, rtol=1e-4, atol=1e-4)

@of(NEW[1:], 'Qwen-Image')
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

@of(['Z-Image', 'Qwen-Image', 'Lumina 2'], 'Qwen-Image')
def test_guided_prediction_of_the_networks_is_the_pipelines(name):
    f = make(name)
    null, cond, noise = f.null(), f.encode(PROMPTS), noise_of(f)
    nets = Networks(f, Model(Teacher(guidance_scale=3.), Student(lora_rank=2)), null)
    t = torch.full((2,), 1000.)
    guided = nets.predict('base', noise, t, cond)[0]
    c, u = [f.predict(f.net, noise, t, k) for k in (cond, {k: v.expand(2, *v.shape[1:]) for k, v in null.items()})]
    assert_close(guided, f.guide(u, c, torch.full((2,), 3.)), rtol=1e-4, atol=1e-5)
    assert (guided - (u + 3*(c - u))).abs().max() > 1e-5      # not the common convention

@of(NEW, 'Chroma')
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

@of(TINY, 'AuraFlow')
def test_half_precision_is_the_pipelines_too(name):
    "Where the pipeline rounds the time to the precision of the latents, so must we"
    f = make(name)
    f.pipe.to(torch.bfloat16)
    scale, noise = 3. if f.guidable else f.unguided, noise_of(f, 1).bfloat16()
    difference = own_images(f, PROMPTS[:1], noise, 4, scale) - pipeline_images(f, PROMPTS[:1], noise, 4, scale)
    assert difference.abs().mean() < .01
    check_steps(f, scale)
    refused(check_steps, changed(f, predict=negated), scale, says='this variant is not understood')

@of(['PixArt-Sigma', 'Sana'], 'PixArt-Sigma')
def test_texts_are_cleaned_as_the_pipelines_call_cleans_them(name):
    f, asked = make(name), []
    clean = f.pipe._text_preprocessing
    def spy(text, clean_caption=False):
        asked.append(clean_caption)
        return clean(text)
    f.pipe._text_preprocessing = spy
    f.encode(PROMPTS[:1])
    ours = set(asked)
    pipeline_images(f, PROMPTS[:1], noise_of(f, 1), 1, f.unguided)
    assert set(asked) == ours

def test_a_text_encoder_that_lacks_a_token_or_a_layer_is_refused():
    f = make('FLUX.2 klein')
    f.pipe.text_encoder.resize_token_embeddings(4)
    refused(f.encode, ['a star'], says='its text encoder cannot read a prompt (index out of range')

def test_a_vae_of_another_size_is_refused():
    "The pipeline of Lumina 2 takes 8 pixels to a latent, whatever its VAE does"
    f = make('Lumina 2')
    f.pipe.vae = make('Z-Image').pipe.vae
    refused(check_steps, f, 3., says='makes images of 16 x 16 pixels where 64 x 64 are asked of its Lumina2Pipeline')

def test_the_list_of_prompts_stays_as_it_is():
    "Z-Image's pipeline writes its chat template into the list that it is called with"
    f, texts = make('Z-Image'), list(PROMPTS[:1])
    f.encode(texts)
    pipeline_images(f, texts, noise_of(f, 1), 1, f.unguided)
    assert texts == PROMPTS[:1]
