"What a user may set, and what may be a teacher: understood, or refused in one line with its key, before anything is trained."
import json, logging, os, random, shutil, subprocess, sys, time
from pathlib import Path

import diffusers
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from pdd_nb.config import DistillConfig, Model, Student, Teacher, all_keys, check, check_files, get_key, load_config, save_config, stages
from pdd_nb.families import check_targets, family_of, load_pipeline, load_whole
from pdd_nb.families import tiny_families
from pdd_nb.models import Networks, load_student, save_student, student_note
from pdd_nb.timesteps import Schedule, stage_grids, student_scheduler, trailing_grid

root = Path(__file__).parent.parent

def refused(call, *args, says, **kw):
    "A `ValueError` of one line that says so"
    with pytest.raises(ValueError) as e: call(*args, **kw)
    assert '\n' not in str(e.value) and says in str(e.value), str(e.value)

# ---- settings

TEXTS = ['blurry, watermark, #ad', '[deformed], blurry', '(worst quality:1.4), text: none', 'no', 'null', '2024', '2024-05-01', '*realistic*', "it's blurry",
         '"quoted"', '%20', '{low}', ' two  spaces ', 'a=b', '', 'flou, 模糊', '- x', '&a', '!x', '1e3', 'true', 'a: b: c', '\\n']

@pytest.mark.parametrize('text', TEXTS)
def test_a_text_setting_takes_the_text_as_it_stands(text):
    assert load_config('halving', f'model.teacher.negative_prompt={text}').model.teacher.negative_prompt == text

def test_names_that_yaml_takes_for_something_else():
    c = load_config('halving', 'output=2024-05-01', 'data.source=001', 'data.caption_column=on', 'training.precision=no')
    assert (c.output, c.data.source, c.data.caption_column, c.training.precision) == ('2024-05-01', '001', 'on', 'no')

def test_other_types_are_read_as_yaml_still():
    c = load_config('halving', 'training.steps=[3, 4]', 'training.lr=1e-4', 'curriculum.enabled=no', 'model.student.lora_targets=to_q', 'seed=0x10')
    assert (c.training.steps, c.training.lr, c.curriculum.enabled, c.model.student.lora_targets, c.seed) == ([3, 4], 1e-4, False, ['to_q'], 16)

def test_a_text_of_another_type_in_a_file_is_told_how_to_write_it(tmp_path):
    (tmp_path/'c.yaml').write_text('model: {teacher: {negative_prompt: no}}', encoding='utf-8')
    refused(load_config, tmp_path/'c.yaml', says='model.teacher.negative_prompt: expected text, got False; put it in quotes')

@pytest.mark.parametrize('seed', ['seed', 'evaluation.seed'])
@pytest.mark.parametrize('value', [2**64, 2**63, 2**32, -1, 'null', '1e400', '[1]'])
def test_a_seed_that_no_generator_takes(seed, value): refused(load_config, 'default', f'{seed}={value}', says=f'{seed}: ')

def test_null_beside_another_mistake(tmp_path):
    (tmp_path/'c.yaml').write_text('model: {teacher: {num_inference_steps: null}, student: {num_inference_steps: 3}}\ncurriculum: {num_regions: 99}', encoding='utf-8')
    refused(load_config, tmp_path/'c.yaml', says='model.teacher.num_inference_steps: expected a whole number, got None')

def test_no_setting_is_a_traceback(tmp_path):
    "Any value for any key, on the command line and in a file: accepted, or refused in one line that begins with a key"
    rng = random.Random(0)
    values = [None, True, 3, -3, 0, 2**70, -2**70, .5, float('nan'), float('inf'), '', 'x', '~', [], [1], [None], [[1]], {}, {'a': 1}, {1: 2}, [True], 'a\0b', 'x'*5000, '\ud800', '9'*5000]
    raw = ['null', '[', '{', '2024-13-45', '!!python/object:os.system {}', '[[[', '"', '&a *a', '*a', '- -', '? x', '%', '@', '`', '9'*5000, '['*1500, '\0', '\ud800', '.nan', '-.inf', 'yes', '0x', '1:2:3']
    keys = all_keys(DistillConfig())
    for _ in range(60):
        c = {}
        for key in rng.sample(keys, 2):
            *sections, name = key.split('.')
            at = c
            for s in sections: at = at.setdefault(s, {})
            at[name] = rng.choice(values)
        try: check(load_config(_file(tmp_path, c)))
        except ValueError as e: assert str(e).split(':')[0] in keys + ['config'] and '\n' not in str(e) and len(str(e)) < 1500, e
        text = f'{rng.choice(keys + ["model", "nope", "training.", "..", "model.teacher"])}={rng.choice(raw)}'
        try: load_config('halving', text)
        except ValueError as e: assert ':' in str(e) and '\n' not in str(e) and len(str(e)) < 1500, e

def _file(folder, content):
    p = folder/'any.yaml'
    p.write_text(yaml.safe_dump(content), encoding='utf-8')
    return p

@pytest.mark.parametrize('content', [b'', b'[1, 2]', b'3', b'a: [', b'\xff\xfe', b'output: \xe9', b'[' * 1500, b'seed: 2024-13-45', b'? {a: 1}\n: 2', b'1: 2', b'training:', b'\x00'])
def test_a_file_that_is_no_configuration(content, tmp_path):
    (tmp_path/'c.yaml').write_bytes(content)
    try: load_config(tmp_path/'c.yaml')
    except ValueError as e: assert '\n' not in str(e)

def test_what_a_run_will_do():
    c = load_config('halving', 'training.steps=[7, 5]', 'model.teacher.num_inference_steps=16', 'model.student.num_inference_steps=2', 'data.valid_size=16')
    assert [(s.objective, s.fine, s.coarse, s.updates) for s in stages(c)] == [('halving', 16, 8, 7), ('halving', 8, 4, 5), ('halving', 4, 2, 5)]

# ---- paths

PATHS = 'output data.source data.encoded model.teacher.name evaluation.prompts_from evaluation.reference_from evaluation.features evaluation.clip'.split()

def test_the_home_folder_is_expanded_on_the_command_line_and_in_files(tmp_path, monkeypatch):
    (tmp_path/'c.yaml').write_text('output: ~/runs/a\ndata: {source: ~/photos}\n', encoding='utf-8')
    for home in ('/home/one', '/home/two'):                         # one file, two users
        monkeypatch.setenv('HOME', home)
        c = load_config(tmp_path/'c.yaml')
        assert (c.output, c.data.source) == (f'{home}/runs/a', f'{home}/photos')
        c = load_config('halving', *[f'{k}=~/x/{k}' for k in PATHS])
        assert [get_key(c, k) for k in PATHS] == [f'{home}/x/{k}' for k in PATHS]
    save_config(c, tmp_path/'stored.yaml')
    monkeypatch.setenv('HOME', '/home/three')                       # what a run has stored says where its files are
    assert load_config(tmp_path/'stored.yaml') == c

def test_configurations_are_utf8_whatever_the_locale(tmp_path):
    code = ("from pdd_nb.config import *; c = load_config('halving', 'model.teacher.negative_prompt=flou, été, 模糊'); save_config(c, 'c.yaml'); "
            "assert load_config('c.yaml') == c; import sys; assert 'torch' not in sys.modules")
    env = os.environ | dict(LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', PYTHONPATH=str(root))
    (tmp_path/'run.py').write_text(code, encoding='utf-8')
    subprocess.run([sys.executable, 'run.py'], cwd=tmp_path, env=env, check=True)
    assert '模糊' in (tmp_path/'c.yaml').read_text(encoding='utf-8')

def test_files_are_examined_before_anything_is_loaded(tmp_path):
    (tmp_path/'file').write_text('', encoding='utf-8')
    (tmp_path/'empty').mkdir()
    begun = time.perf_counter()
    for override, says in {f'output={tmp_path}/file': 'output: ', f'output={tmp_path}/file/run': 'output: ', f'output={tmp_path}/{"x"*300}': 'output: ', f'output={"/x"*4000}': 'output: ',
                           'output=/proc/1/nothing': 'output: ', 'output=a\0b': 'output: ', f'data.encoded={tmp_path}/file': 'data.encoded: ',
                           'model.teacher.name=/nowhere': "model.teacher.name: cannot load '/nowhere'", 'model.teacher.name=nowhere': 'model.teacher.name: ', 'model.teacher.name=./a/b': 'model.teacher.name: ',
                           f'model.teacher.name={tmp_path}/empty': 'has no model_index.json', f'model.teacher.name={tmp_path}/file': 'is a file',
                           'evaluation.prompts_from=/is/not/there.txt': 'evaluation.prompts_from: no file', f'evaluation.prompts_from={tmp_path}/empty': 'evaluation.prompts_from: no file',
                           'evaluation.reference_from=/is/not/there': 'evaluation.reference_from: no folder', 'evaluation.clip=/is/not/there': 'evaluation.clip: ',
                           f'evaluation.clip={tmp_path}/empty': 'has no config.json', 'evaluation.features=inceptoin': 'evaluation.features: '}.items():
        refused(check_files, load_config('halving', f'output={tmp_path}/run', override), says=says)
    for fine in ('evaluation.features=inception', 'model.teacher.name=stabilityai/sdxl-turbo', 'evaluation.clip=openai/clip-vit-base-patch32'):
        check_files(load_config('halving', f'output={tmp_path}/run', fine))
    assert time.perf_counter() - begun < 2 and not (tmp_path/'run').exists()

# ---- steps

def test_every_number_of_steps_that_training_accepts_is_walked_exactly():
    for T in (1000, 1024):
        teacher = diffusers.DDIMScheduler(num_train_timesteps=T, beta_start=.00085, beta_end=.012, beta_schedule='scaled_linear')
        saved, schedule, refusals = student_scheduler(teacher), Schedule.of(teacher), 0
        for n in range(1, 501):
            try: (fine, coarse), = stage_grids(lambda k: trailing_grid(schedule, k), 2*n, n)
            except ValueError as e:
                assert str(e).startswith('model.teacher.num_inference_steps: ')
                refusals += 1
                continue
            for grid in (fine, coarse):
                saved.set_timesteps(len(grid))
                assert_close(grid.t, saved.timesteps, rtol=0, atol=0)
        assert 0 < refusals < 80

# ---- teachers

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "Every family as a folder"
    d = tmp_path_factory.mktemp('families')
    out = {}
    for k, f in tiny_families().items():
        out[k] = d/k.replace(' ', '_')
        f.pipe.save_pretrained(out[k])
    return out

def edit(folder, f):
    "Change the tensors of a part; `f` returns the new ones"
    file = next(folder.glob('*.safetensors'))
    save_file({k: v.clone() for k, v in f(load_file(file)).items()}, file, dict(format='pt'))

def copied(src, to):
    shutil.copytree(src, to)
    return to

def weights(pipe): return {f'{part}.{k}': v for part, m in pipe.components.items() if isinstance(m, torch.nn.Module) for k, v in m.state_dict().items()}

def test_every_family_is_loaded_whole(folders):
    for k, f in tiny_families().items():
        a, b = weights(f.pipe), weights(load_pipeline(folders[k]))
        assert a.keys() == b.keys()
        for name in a: assert_close(a[name], b[name], rtol=0, atol=0)

def test_differences_that_are_harmless(folders, tmp_path):
    "Buffers of older versions, older names, and the parts of larger models that a text encoder leaves out"
    old = dict([('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')])
    def older(k):
        for new, was in old.items():
            if 'mid_block.attentions' in k: k = k.replace(new, was)
        return k
    p = copied(folders['SD 1.5'], tmp_path/'sd')
    edit(p/'vae', lambda ts: {older(k): v for k, v in ts.items()})
    edit(p/'text_encoder', lambda ts: {f'text_model.{k}': v for k, v in ts.items()} | {'text_model.embeddings.position_ids': torch.arange(77)[None], 'logit_scale': torch.ones(1)})
    new, old = weights(load_pipeline(folders['SD 1.5'])), weights(load_pipeline(p))
    for name in new: assert_close(old[name], new[name], rtol=0, atol=0)
    p = copied(folders['PixArt-Sigma'], tmp_path/'pixart')
    edit(p/'text_encoder', lambda ts: ts | {'encoder.embed_tokens.weight': ts['shared.weight'], 'decoder.final_layer_norm.weight': torch.ones(16)})
    load_pipeline(p)

@pytest.mark.parametrize('family, part', [('SD 1.5', 'text_encoder'), ('SD 1.5', 'unet'), ('SD 1.5', 'vae'), ('SDXL', 'text_encoder_2'), ('SD 3', 'text_encoder_3'), ('Sana', 'transformer')])
def test_a_part_that_is_not_whole_is_refused_by_name(family, part, folders, tmp_path):
    whole = load_file(next((folders[family]/part).glob('*.safetensors')))
    first, p = max(whole, key=lambda k: whole[k].numel()), copied(folders[family], tmp_path/'t')
    edit(p/part, lambda ts: {k: v for k, v in ts.items() if k != first})
    refused(load_pipeline, p, says=f'{first} is missing')
    edit(p/part, lambda ts: whole | {'of.another.model': torch.zeros(2)})
    refused(load_pipeline, p, says='of.another.model is in the file')
    edit(p/part, lambda ts: whole | {first: whole[first][:-1]})
    refused(load_pipeline, p, says=f'model.teacher.name: ')
    edit(p/part, lambda ts: whole | {first: whole[first].masked_fill(torch.arange(whole[first].numel()).view(whole[first].shape) == 7, float('nan'))})
    refused(load_pipeline, p, says=f'{part} of {p} has numbers that are not finite ({first}')

def test_parts_of_another_model_that_are_whole(folders, tmp_path):
    for n, (family, part, other) in enumerate([('SD 1.5', 'text_encoder', 'SD 3/text_encoder_3'), ('SD 3', 'text_encoder_3', 'FLUX.1/text_encoder_2'), ('SD 1.5', 'vae', 'SD 3/vae')]):
        p = copied(folders[family], tmp_path/str(n))
        shutil.rmtree(p/part)
        source, folder = other.split('/')
        shutil.copytree(folders[source]/folder, p/part)
        index = json.loads((p/'model_index.json').read_text(encoding='utf-8'))
        index[part] = json.loads((folders[source]/'model_index.json').read_text(encoding='utf-8'))[folder]
        (p/'model_index.json').write_text(json.dumps(index), encoding='utf-8')
        refused(lambda: family_of(load_pipeline(p)), says='model.teacher.name: the ')

def test_weights_that_are_there_in_half_precision_alone(folders, tmp_path):
    whole = load_pipeline(folders['SD 1.5']).to(torch.float16)
    whole.save_pretrained(tmp_path/'half', variant='fp16')
    assert not list((tmp_path/'half').glob('*/model.safetensors'))
    a, b = weights(whole), weights(load_pipeline(tmp_path/'half'))
    for name in a: assert_close(b[name], a[name].float(), rtol=0, atol=0)

def test_a_model_of_the_hub_that_needs_a_login(monkeypatch):
    from types import SimpleNamespace
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    for kind, status, says in ((GatedRepoError, 403, 'accept its conditions on https://huggingface.co/a/b, then log in'), (RepositoryNotFoundError, 401, 'if it is private, log in')):
        def refuse(self, name, **kw): raise kind('no', response=SimpleNamespace(status_code=status, headers={}, request=None))
        monkeypatch.setattr('huggingface_hub.HfApi.model_info', refuse)
        refused(load_pipeline, 'a/b', says=says)

def test_weights_that_overflow_in_half_precision(folders, tmp_path):
    p = copied(folders['SD 1.5'], tmp_path/'t')
    edit(p/'unet', lambda ts: ts | {'conv_in.weight': ts['conv_in.weight']*1e7})
    load_pipeline(p)
    refused(load_pipeline, p, dtype=torch.float16, says='unet of')

def test_other_files_than_weights_that_are_broken(folders, tmp_path):
    for n, (name, content) in enumerate([('unet/config.json', '{'), ('model_index.json', '[]'), ('model_index.json', '{"_class_name": 3}'), ('scheduler/scheduler_config.json', '{"prediction_type": "x"}'), ('vae/config.json', '{"_class_name": "AutoencoderKL"}'), ('text_encoder/config.json', '{"architectures": ["CLIPTextModel"], "hidden_size": 8}')]):
        p = copied(folders['SD 1.5'], tmp_path/str(n))
        (p/name).write_text(content, encoding='utf-8')
        refused(lambda: family_of(load_pipeline(p)), says='model.teacher.name: ')

def test_schedulers_that_are_not_understood():
    f = tiny_families(['SD 1.5'])['SD 1.5']
    like = dict(beta_start=.00085, beta_end=.012, beta_schedule='scaled_linear')
    for s in (diffusers.EDMDPMSolverMultistepScheduler(), diffusers.EDMEulerScheduler(), diffusers.CMStochasticIterativeScheduler(), diffusers.FlowMatchHeunDiscreteScheduler(),
              diffusers.EulerDiscreteScheduler(**like, timestep_type='continuous', prediction_type='v_prediction'), diffusers.DDPMScheduler(beta_schedule='sigmoid'),
              diffusers.DDIMScheduler(**like, rescale_betas_zero_snr=True), diffusers.CogVideoXDDIMScheduler(prediction_type='v_prediction', snr_shift_scale=3.)):
        f.pipe.scheduler = s
        refused(family_of, f.pipe, says=f'model.teacher.name: its {type(s).__name__}' if 'CogVideo' not in type(s).__name__ else 'model.teacher.name: the noise levels')
    for s in (diffusers.DDIMScheduler(**like), diffusers.PNDMScheduler(**like), diffusers.EulerAncestralDiscreteScheduler(**like), diffusers.DPMSolverMultistepScheduler(**like, use_karras_sigmas=True),
              diffusers.UniPCMultistepScheduler(**like), diffusers.DDIMScheduler(**like, rescale_betas_zero_snr=True, prediction_type='v_prediction'), diffusers.LCMScheduler(**like), diffusers.HeunDiscreteScheduler(**like)):
        f.pipe.scheduler = s
        family_of(f.pipe)

def seen_by(vae):
    "What is given to the VAE to decode, call by call"
    seen, decode = [], vae.decode
    def spy(x, **kw):
        seen.append(x)
        return decode(x, **kw)
    vae.decode = spy
    return seen

@pytest.mark.parametrize('family', ['SD 1.5', 'SDXL', 'PixArt-Sigma', 'SD 3', 'FLUX.1', 'Sana'])
def test_what_reaches_the_vae_is_what_diffusers_gives_it(family):
    f = tiny_families([family])[family]
    c = len(f.shape) and f.channels
    f.pipe.vae.register_to_config(latents_mean=[-1.6, 1.1, -.4, .9]*(c//4), latents_std=[8.4, 5.9, 6.1, 5.2]*(c//4))
    call = dict(num_inference_steps=2, latents=f.pack(torch.randn(1, *f.shape, generator=torch.Generator().manual_seed(0))), height=f.resolution, width=f.resolution, guidance_scale=1., **f.call)
    f.pipe.scheduler = f.scheduler()
    seen = seen_by(f.pipe.vae)
    f.pipe('a red circle', output_type='pt', **call)
    z = f.pipe('a red circle', output_type='latent', **call).images
    z = f.unpack(z, *f.shape[1:])
    f.decode(z)
    theirs, ours = seen
    assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert_close(f.from_vae(f.to_vae(z)), z, rtol=1e-4, atol=1e-4)

def test_a_vae_that_overflows_in_half_precision_runs_in_full():
    f = tiny_families(['SDXL'])['SDXL']
    with torch.no_grad(): f.pipe.vae.encoder.conv_in.weight.mul_(2e5)
    im = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    full = f.latents(im)
    f.pipe.to(torch.float16)
    half = f.latents(im)
    assert f.pipe.vae.dtype == torch.float16 and half.isfinite().all()
    assert_close(half, full, rtol=.05, atol=.05)
    assert f.decode(half).isfinite().all() and f.pipe.vae.dtype == torch.float16

# ---- adapters and students

def networks(f, rank=4, targets=()):
    "A teacher without guidance, and its student"
    return Networks(f, Model(Teacher(guidance_scale=1.), Student(lora_rank=rank, lora_targets=list(targets))))

def test_targets_of_adapters():
    f = tiny_families(['SD 1.5'])['SD 1.5']
    refused(networks, f, 4, ['to_qq'], says="model.student.lora_targets: 'to_qq' is the end of no module's name")
    refused(networks, f, 4, ['to_q', 'to_add_out.0', 'ff.0'], says="'to_add_out.0'")
    refused(networks, f, 4, ['norm1'], says='a GroupNorm')
    refused(networks, f, 4, ['to_out'], says='a ModuleList')
    s = tiny_families(['Sana'])['Sana']
    refused(check_targets, s.net, ['conv_depth'], 3, says='groups')
    assert {k.split('.lora_')[0].rsplit('.', 1)[-1] for k in networks(f, 4, ['to_q', 'ff.net.2']).weights()} == {'to_q', '2'}

@pytest.fixture(scope='module')
def student(folders, tmp_path_factory):
    f = family_of(load_pipeline(folders['SD 1.5']), folders['SD 1.5'], 16)
    d = tmp_path_factory.mktemp('student')/'student'
    save_student(d, networks(f), 2)
    return d

def test_a_lora_that_is_empty_or_not_finite_or_not_of_this_teacher(student, tmp_path):
    whole = load_file(student/'pytorch_lora_weights.safetensors')
    k = 'unet.conv_in.lora_A.weight'
    for n, (ts, says) in enumerate([({}, 'no LoRA'), ({k: whole[k]}, 'does not fit'), ({v: w for v, w in whole.items() if v != k}, 'does not fit'),
                                    (whole | {k: whole[k]*float('inf')}, 'not finite'), ({v.replace('unet.', 'text_encoder.'): w for v, w in whole.items()}, 'does not fit')]):
        p = copied(student, tmp_path/str(n))
        save_file(ts, p/'pytorch_lora_weights.safetensors')
        refused(load_student, p, says=says)
    (p/'pytorch_lora_weights.safetensors').unlink()
    refused(load_student, p, says='no LoRA')
    load_student(student)

@pytest.mark.parametrize('key, value', [('num_inference_steps', None), ('num_inference_steps', '4'), ('num_inference_steps', True), ('guidance_scale', 'x'), ('guidance_range', 3), ('guidance_range', [1, None]),
                                        ('teacher', ['a']), ('fingerprint', None), ('resolution', -1), ('format', 'onnx')])
def test_a_note_of_wrong_types(key, value, student, tmp_path):
    note = json.loads((student/'student.json').read_text(encoding='utf-8')) | {key: value}
    (tmp_path/'student.json').write_text(json.dumps(note), encoding='utf-8')
    refused(student_note, tmp_path, says=f'checkpoint: {key} in')

@pytest.mark.parametrize('content', [b'[]', b'3', b'null', b'\xff', b'{', b'['*100_000])
def test_a_note_that_is_none(content, tmp_path):
    (tmp_path/'student.json').write_bytes(content)
    refused(student_note, tmp_path, says='checkpoint: ')

def test_a_disk_that_is_full(student, folders, tmp_path, monkeypatch):
    f = family_of(load_pipeline(folders['SD 1.5']), folders['SD 1.5'], 16)
    nets = networks(f)
    def full(*a, **kw):
        from safetensors import SafetensorError
        raise SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)')
    monkeypatch.setattr('safetensors.torch.save_file', full)
    monkeypatch.setattr('diffusers.loaders.lora_base.safetensors.torch.save_file', full)
    refused(save_student, tmp_path/'student', nets, 2, says='output: cannot write')
    assert not (tmp_path/'student').exists()

# ---- the hub

def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch, tmp_path):
    asked = []
    def no_network(self, name, **kw):
        asked.append(name)
        raise ConnectionError('Name or service not known')
    monkeypatch.setattr('huggingface_hub.HfApi.model_info', no_network)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    begun = time.perf_counter()
    refused(load_pipeline, 'nobody/nothing', says="model.teacher.name: cannot load 'nobody/nothing': no such folder, and the hub cannot be reached")
    assert asked == ['nobody/nothing'] and time.perf_counter() - begun < 1

# ---- captions that are too long

def test_captions_that_were_cut_are_counted_in_one_line(caplog, capfd):
    f = tiny_families(['SD 1.5'])['SD 1.5']
    caplog.set_level(logging.WARNING, 'pdd_nb')
    with f.counting_cut():
        for _ in range(4): f.encode(['a red circle ' * 100]*10 + ['short'])
    said = [r.getMessage() for r in caplog.records if r.name == 'pdd_nb']
    assert len(said) == 1 and said[0].startswith('40 of 44 captions') and '24 tokens' in said[0] and len(said[0]) < 200
    assert capfd.readouterr().err.count('circle') == 0
    caplog.clear()
    f.encode(['a '*22, 'a '*23])                                    # with the marks of beginning and end, 24 and 25
    assert [r.getMessage()[:16] for r in caplog.records if r.name == 'pdd_nb'] == ['1 of 2 captions ']

@pytest.mark.parametrize('family, limit', [('SDXL', 24), ('PixArt-Sigma', 300), ('SD 3', 256), ('FLUX.1', 512), ('Sana', 300)])
def test_the_limit_of_the_encoder_that_reads_most(family, limit):
    f = tiny_families([family])[family]
    assert f.reader()[1] == limit and f.too_long(['red '*20, 'red '*1000]) == 1

def test_one_network_of_an_evaluation_is_loaded_whole(tmp_path):
    from transformers import CLIPModel
    from pdd_nb.families import asset
    p = copied(asset('clip'), tmp_path/'clip')
    load_whole(CLIPModel, p, 'evaluation.clip')
    edit(p, lambda ts: {k: v for k, v in ts.items() if 'visual_projection' not in k})
    refused(load_whole, CLIPModel, p, 'evaluation.clip', says='evaluation.clip: ')
