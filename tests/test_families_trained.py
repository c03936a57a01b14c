"Every family added last, trained on a tiny pipeline by both objectives; the student is loaded and drawn with by plain diffusers; all of them with NB_FLAGS=slow, else one."
import json, os

import diffusers
import pytest
from diffusers import DiffusionPipeline
from torch.testing import assert_close

from pdd_nb.config import Stage, load_config
from pdd_nb.families import tiny_families
from pdd_nb.models import load_student, student_note
from pdd_nb.recorder import Recorder
from pdd_nb.sampling import initial_noise, sample_images
from pdd_nb.trainer import Trainer

NEW = ['FLUX.1 schnell', 'Chroma', 'Z-Image', 'FLUX.2 klein', 'FLUX.2 dev', 'Qwen-Image', 'Lumina 2', 'AuraFlow']
PROMPTS = ['a small red star', 'a large blue circle above a star']

@pytest.fixture
def quick(monkeypatch):
    "No plots"
    monkeypatch.setattr(Recorder, 'plots', lambda *a, **kw: None)

def small(f, folder, *more):
    "A run of some updates on a saved pipeline"
    values = {'model.teacher.name': folder/'teacher', 'model.teacher.resolution': f.resolution, 'model.teacher.num_inference_steps': 4,
              'model.teacher.guidance_scale': 3 if f.guidable else 1, 'model.student.num_inference_steps': 2, 'model.student.lora_rank': 4,
              'training.batch_size': 2, 'training.validate_every': 2, 'training.lr': 5e-3, 'training.lr_warmup': 0, 'training.ema': 0,
              'data.train_size': 2, 'data.valid_size': 2, 'curriculum.num_regions': 2, 'curriculum.update_interval': 2,
              'distillation.matching.head_start': 2, 'distillation.matching.noise_levels': 8, 'distillation.matching.lr': 5e-3,
              'evaluation.prompts': 0, 'device': 'cpu', 'threads': 1, 'output': folder/'run'}
    return load_config('halving', *[f'{k}={v}' for k, v in values.items()], *more)

def by_diffusers_alone(run, f, prompts, noise):
    "Images of a student that diffusers loads from the teacher and the run's folder"
    folder, note = student_note(run)
    pipe = DiffusionPipeline.from_pretrained(note['teacher'])
    pipe.load_lora_weights(folder)
    kind = json.loads((folder/'scheduler'/'scheduler_config.json').read_text(encoding='utf-8'))['_class_name']
    pipe.scheduler = getattr(diffusers, kind).from_pretrained(folder/'scheduler')
    pipe.set_progress_bar_config(disable=True)
    options = dict(num_inference_steps=note['num_inference_steps'], **f.scale_option(note['guidance_scale']), output_type='pt')
    return pipe(prompt=list(prompts), latents=f.pack(noise), **f.size, **options).images

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')

@pytest.mark.parametrize('name', NEW if SLOW else ['Qwen-Image'])
def test_trained_by_both_objectives_saved_and_reloaded_by_diffusers(name, quick, tmp_path):
    f = tiny_families([name])[name]
    f.pipe.save_pretrained(tmp_path/'teacher')
    t = Trainer(small(f, tmp_path), quiet=True, stages=[Stage('halving', 4, 2, 4), Stage('matching', 2, 2, 4)])
    run = t.run()
    losses = [m['val_loss'] for m in t.recorder.metrics if m['stage'] == 0 and 'val_loss' in m]
    assert losses[-1] < losses[0]
    assert all(p.abs().max() > 0 for k, p in t.nets.weights().items() if 'lora_B' in k)
    note = student_note(run)[1]
    assert note['guidance_scale'] == (3. if f.distilled else f.unguided)
    noise = initial_noise(f.shape, range(2))
    ours = sample_images(load_student(run), PROMPTS, 2, note['guidance_scale'], resolution=f.resolution)
    assert_close(ours, by_diffusers_alone(run, f, PROMPTS, noise), rtol=0, atol=1e-5)
    base = sample_images(f.pipe, PROMPTS, 2, note['guidance_scale'], resolution=f.resolution)
    assert (ours - base).abs().max() > 1e-3
