"A teacher whose linear layers are quantised: students are trained, saved and reloaded on it. bitsandbytes has kernels for the CPU."
import json, os
from importlib.util import find_spec

import pytest
import torch

from pdd_nb.config import Model, Student, Teacher, check_files, load_config
from pdd_nb.families import load_teacher, tiny_families
from pdd_nb.models import Networks, load_student, save_student, student_note
from pdd_nb.trainer import distill

needed = pytest.mark.skipif(find_spec('bitsandbytes') is None, reason='bitsandbytes is not installed')
SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
ALL = ('SD 1.5', 'SD 2.1 (v, zero SNR)', 'SDXL', 'PixArt-Sigma', 'SD 3', 'FLUX.1', 'FLUX.1 schnell', 'Sana', 'Chroma', 'Z-Image', 'FLUX.2 klein',
       'FLUX.2 dev', 'Qwen-Image', 'Lumina 2', 'AuraFlow')
CASES = [(name, kind) for name in ALL for kind in ('nf4', 'int8')] if SLOW else [('FLUX.2 klein', 'nf4'), ('PixArt-Sigma', 'int8')]

def student_of(t, folder):
    "Save a student of random adapters, of two steps; its networks"
    nets = Networks(load_teacher(t), Model(t, Student(lora_rank=2)))
    g = torch.Generator().manual_seed(0)
    for w in nets.weights().values():
        w.data.copy_(.1*torch.randn(w.shape, generator=g))
    save_student(folder, nets, 2)
    return nets

@needed
@pytest.mark.parametrize('name, kind', CASES)
def test_a_student_is_saved_and_reloaded_on_a_quantised_teacher(name, kind, tmp_path):
    f = tiny_families([name])[name]
    f.pipe.save_pretrained(tmp_path/'teacher')
    t = Teacher(name=str(tmp_path/'teacher'), resolution=f.resolution, guidance_scale=f.unguided, quantize=kind)
    nets = student_of(t, tmp_path/'student')                # compares it with the reloaded one
    note = student_note(tmp_path/'student')[1]
    assert (note['quantize'], note['fingerprint']) == (kind, f.fingerprint)
    stored = {nets.net.get_parameter(k).dtype for k, _ in nets.net.named_parameters() if k.endswith('base_layer.weight')}
    assert (torch.uint8 if kind == 'nf4' else torch.int8) in stored
    assert {p.dtype for p in nets.weights().values()} == {torch.float32}
    full = load_student(tmp_path/'student', quantize='')    # the same adapters on the original weights
    net = getattr(full, f.part)
    assert all(p.is_floating_point() for p in net.parameters())

def distilled(d, *overrides):
    "A run of two training steps a stage on a tiny SD 3"
    return distill(load_config('halving', f'model.teacher.name={d/"teacher"}', 'model.teacher.resolution=16', f'output={d/"run"}',
                               'model.teacher.num_inference_steps=4', 'model.student.num_inference_steps=2', 'data.train_size=16',
                               'curriculum.num_regions=2', 'data.valid_size=4', 'training.steps=[2]', 'training.batch_size=2',
                               'model.student.lora_rank=2', 'model.teacher.guidance_scale=2', 'device=cpu', *overrides), quiet=True)

@needed
def test_a_run_on_a_quantised_teacher(tmp_path):
    "Trains, saves, and is planned with the bytes that the teacher takes"
    f = tiny_families(['SD 3'])['SD 3']
    f.pipe.save_pretrained(tmp_path/'teacher')
    run = distilled(tmp_path, 'model.teacher.quantize=nf4')
    losses = [json.loads(line) for line in (run/'metrics.jsonl').read_text(encoding='utf-8').splitlines()]
    assert losses and student_note(run)[1]['quantize'] == 'nf4'

def test_a_missing_library_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr('pdd_nb.config.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='model.teacher.quantize: needs bitsandbytes, which is not installed; pip install'):
        check_files(load_config('halving', f'output={tmp_path}/run', 'model.teacher.quantize=nf4'))

