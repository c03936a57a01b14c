"A teacher with LoRAs of its own: added to its weights, named by its students, and needed to load them. A student beside other adapters."
import json, shutil

import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline, EulerDiscreteScheduler, StableDiffusionControlNetPipeline
from torch.testing import assert_close

from pdd_nb.config import Model, Student, Teacher
from pdd_nb.export import export
from pdd_nb.families import load_teacher, tiny_families
from pdd_nb.models import Networks, load_student, save_student, student_note

PROMPTS = ['a small red star']

def refused(call, *args, says, **kw):
    "A `ValueError` of one line that says so"
    with pytest.raises(ValueError) as e: call(*args, **kw)
    assert '\n' not in str(e.value) and says in str(e.value), str(e.value)

def student_of(t, folder, seed=1):
    "Save a student of random adapters, of two steps"
    nets = Networks(load_teacher(t), Model(t, Student(lora_rank=2)))
    g = torch.Generator().manual_seed(seed)
    for w in nets.weights().values():
        w.data.copy_(.1*torch.randn(w.shape, generator=g))
    save_student(folder, nets, 2)

@pytest.fixture(scope='module')
def styled(tmp_path_factory):
    "Settings of a teacher with a LoRA, and a folder with a student of it"
    d = tmp_path_factory.mktemp('styled')
    tiny_families(['SD 1.5'])['SD 1.5'].pipe.save_pretrained(d/'teacher')
    plain = dict(name=str(d/'teacher'), resolution=16, guidance_scale=1.)
    student_of(Teacher(**plain), d/'style', seed=0)
    t = Teacher(**plain, loras=[str(d/'style')], lora_scales=[.5])
    student_of(t, d/'student')
    return t, d

def image(pipe, **more):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    size = dict(height=16, width=16, latents=noise, **more)
    return pipe(prompt=PROMPTS, num_inference_steps=2, guidance_scale=1., output_type='pt', **size).images

def by_diffusers_alone(t, folder, scale):
    "The student on a teacher to which diffusers adds the LoRA at some strength"
    pipe = DiffusionPipeline.from_pretrained(t.name)
    pipe.load_lora_weights(t.loras[0])
    pipe.fuse_lora(lora_scale=scale)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(folder)
    pipe.scheduler = EulerDiscreteScheduler.from_pretrained(folder/'scheduler')
    return image(pipe)

def test_the_student_is_loaded_on_the_teacher_with_its_lora(styled):
    t, d = styled
    assert student_note(d/'student')[1]['loras'] == [[t.loras[0], .5]]
    ours = image(load_student(d/'student'))
    assert_close(ours, by_diffusers_alone(t, d/'student', .5), rtol=0, atol=1e-5)
    assert (ours - by_diffusers_alone(t, d/'student', 1.)).abs().max() > 1e-3

def test_a_student_whose_lora_is_missing_or_not_named_is_refused(styled, tmp_path):
    t, d = styled
    shutil.copytree(d/'student', tmp_path/'student')
    note = json.loads((tmp_path/'student'/'student.json').read_text(encoding='utf-8'))
    for loras, says in ((None, 'was distilled from another teacher'), ([[t.loras[0], .4]], 'was distilled from another'),
                        ([['/is/not/there', .5]], 'model.teacher.loras: cannot add'), (['a'], 'checkpoint: loras in')):
        (tmp_path/'student'/'student.json').write_text(json.dumps(note | dict(loras=loras)), encoding='utf-8')
        refused(load_student, tmp_path/'student', says=says)

def test_a_teacher_that_was_loaded_without_its_loras_is_refused(styled):
    t, _ = styled
    f = load_teacher(Teacher(name=t.name, resolution=16))
    refused(Networks(f, Model(t)).prepare, None, says='model.teacher.loras: the teacher was loaded with []')

def test_only_a_whole_pipeline_is_exported(styled, tmp_path):
    refused(export, styled[1]/'student', tmp_path/'out', base_model='me/teacher', says='runs: the teacher has LoRAs of its own')

def test_a_style_is_stacked_on_a_student(styled):
    "At a strength of .5 beside the student, the image is that of the student on a teacher with half of the style in its weights"
    t, d = styled
    pipe, images = DiffusionPipeline.from_pretrained(t.name), {}
    for name in ('style', 'student'):
        pipe.load_lora_weights(d/name, adapter_name=name)
    pipe.scheduler = EulerDiscreteScheduler.from_pretrained(d/'student'/'scheduler')
    for strength in (0., .5, 1.):
        pipe.set_adapters(['style', 'student'], [strength, 1.])
        images[strength] = image(pipe)
    assert_close(images[.5], image(load_student(d/'student')), rtol=0, atol=1e-5)
    assert min((images[a] - images[b]).abs().max() for a, b in ((0., .5), (.5, 1.))) > 1e-3

def test_a_student_with_a_controlnet(styled):
    "A ControlNet whose output is zero changes nothing, another does"
    t, d = styled
    plain = DiffusionPipeline.from_pretrained(t.name)
    net = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(16, 32))
    pipe = StableDiffusionControlNetPipeline(**plain.components, controlnet=net, requires_safety_checker=False)
    pipe.load_lora_weights(d/'style')
    pipe.scheduler = EulerDiscreteScheduler.from_pretrained(d/'style'/'scheduler')
    control = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    alone = image(load_student(d/'style'))
    assert_close(image(pipe, image=control), alone, rtol=0, atol=1e-5)
    torch.nn.init.constant_(net.controlnet_mid_block.weight, .1)
    assert (image(pipe, image=control) - alone).abs().max() > 1e-3
