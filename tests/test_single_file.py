"Teachers from one file in the format of the original code, whose configurations are in a folder; and other forms of checkpoints."
import re, shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, ConfigMixin, DiffusionPipeline, UNet2DConditionModel
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pdd_nb.config import Model, Student, Teacher, check_files, load_config
from pdd_nb.export import plan_export
from pdd_nb.families import load_pipeline, load_teacher, tiny_families
from pdd_nb.models import Networks, load_student, save_student, student_note
from pdd_nb.plan import architecture, source_of
from pdd_nb.tiny import clip_config, tiny_unet

RESNET = dict(norm1='in_layers.0', conv1='in_layers.2', time_emb_proj='emb_layers.1', norm2='out_layers.0', conv2='out_layers.3',
              conv_shortcut='skip_connection')
UNET = {'conv_in': 'input_blocks.0.0', 'conv_norm_out': 'out.0', 'conv_out': 'out.2', 'time_embedding.linear_1': 'time_embed.0',
        'time_embedding.linear_2': 'time_embed.2', 'add_embedding.linear_1': 'label_emb.0.0', 'add_embedding.linear_2': 'label_emb.0.2'}
OPEN_CLIP = {'text_model.encoder.layers': 'transformer.resblocks', 'layer_norm1': 'ln_1', 'layer_norm2': 'ln_2', 'fc1': 'c_fc', 'fc2': 'c_proj',
             'self_attn': 'attn', 'text_model.final_layer_norm': 'ln_final', 'text_model.embeddings.token_embedding': 'token_embedding',
             'text_model.embeddings.position_embedding.weight': 'positional_embedding', 'text_projection.weight': 'text_projection'}
MIDDLE = {'resnets.0': 0, 'attentions.0': 1, 'resnets.1': 2}
ATTENTION = {'group_norm': 'norm', 'to_q': 'q', 'to_k': 'k', 'to_v': 'v', 'to_out.0': 'proj_out'}

def original_unet(name, unet):
    "The name of a tensor of a UNet in the original code"
    path, _, leaf = name.rpartition('.')
    if path in UNET: return f'{UNET[path]}.{leaf}'
    if m := re.fullmatch(r'mid_block\.(\w+\.\d+)\.(.*)', path): return f'middle_block.{MIDDLE[m[1]]}.{RESNET.get(m[2], m[2])}.{leaf}'
    way, block, kind, i, rest = re.fullmatch(r'(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)', path).groups()
    n, block = unet.config.layers_per_block + 1, int(block)
    if kind == 'downsamplers': return f'input_blocks.{(block + 1)*n}.0.op.{leaf}'
    if kind == 'upsamplers': return f"output_blocks.{(block + 1)*n - 1}.{1 + hasattr(unet.up_blocks[block], 'attentions')}.conv.{leaf}"
    place = f'input_blocks.{1 + block*n + int(i)}' if way == 'down' else f'output_blocks.{block*n + int(i)}'
    return f"{place}.{int(kind == 'attentions')}.{RESNET.get(rest, rest)}.{leaf}"

def original_vae(name, levels):
    "The name of a tensor of a VAE in the original code"
    name = name.replace('conv_norm_out', 'norm_out').replace('conv_shortcut', 'nin_shortcut')
    name = re.sub(r'mid_block\.resnets\.(\d)', lambda m: f'mid.block_{int(m[1]) + 1}', name)
    name = re.sub(r'mid_block\.attentions\.0\.(group_norm|to_q|to_k|to_v|to_out\.0)', lambda m: f'mid.attn_1.{ATTENTION[m[1]]}', name)
    name = re.sub(r'down_blocks\.(\d)\.resnets\.(\d)', r'down.\1.block.\2', name)
    name = re.sub(r'down_blocks\.(\d)\.downsamplers\.0', r'down.\1.downsample', name)
    name = re.sub(r'up_blocks\.(\d)\.resnets\.(\d)', lambda m: f'up.{levels - 1 - int(m[1])}.block.{m[2]}', name)
    return re.sub(r'up_blocks\.(\d)\.upsamplers\.0', lambda m: f'up.{levels - 1 - int(m[1])}.upsample', name)

def original_networks(pipe):
    "The tensors of UNet and VAE by the names of the original code"
    out = {f'model.diffusion_model.{original_unet(k, pipe.unet)}': v for k, v in pipe.unet.state_dict().items()}
    for k, v in pipe.vae.state_dict().items():
        if '.attentions.' in k and v.ndim == 2:
            v = v[..., None, None]
        out[f'first_stage_model.{original_vae(k, len(pipe.vae.config.block_out_channels))}'] = v
    return out

def original_clip(model, prefix):
    return {f"{prefix}.transformer.text_model.{k.removeprefix('text_model.')}": v for k, v in model.state_dict().items()}

def open_clip(model, prefix):
    "The tensors of SDXL's second text encoder by the names of the original code, which has one matrix for q, k and v"
    out, own = {}, model.state_dict()
    for k, v in own.items():
        name = k
        for new, old in OPEN_CLIP.items():
            name = name.replace(new, old)
        if '.k_proj.' in k or '.v_proj.' in k: continue
        if '.q_proj.' in k:
            name = re.sub(r'q_proj\.(\w+)', r'in_proj_\1', name)
            v = torch.cat([own[k.replace('q_proj', f'{c}_proj')] for c in 'qkv'])
        out[f'{prefix}.model.{name}'] = v.T if name == 'text_projection' else v
    return out

def original_checkpoint(pipe):
    "The tensors of a pipeline of Stable Diffusion 1 or SDXL by the names of the original code"
    out = original_networks(pipe)
    if hasattr(pipe, 'text_encoder_2'):
        out |= original_clip(pipe.text_encoder, 'conditioner.embedders.0') | open_clip(pipe.text_encoder_2, 'conditioner.embedders.1')
    else:
        out |= original_clip(pipe.text_encoder, 'cond_stage_model')
    return {k: v.contiguous() for k, v in out.items()}

def save_both(pipe, d):
    "A folder with a pipeline, its configurations alone, and one file with its weights"
    pipe.save_pretrained(d/'teacher')
    shutil.copytree(d/'teacher', d/'configurations', ignore=shutil.ignore_patterns('*.safetensors'))
    save_file(original_checkpoint(pipe), d/'model.safetensors')

def sdxl():
    "A tiny SDXL whose text encoders have different widths, by which diffusers tells them apart"
    pipe, config = tiny_families(['SDXL'])['SDXL'].pipe, clip_config()
    config.hidden_size = config.projection_dim = config.intermediate_size = 32
    added = dict(addition_embed_type='text_time', addition_time_embed_dim=8, projection_class_embeddings_input_dim=6*8 + 32)
    unet = tiny_unet(cross_attention_dim=48, transformer_layers_per_block=(1, 2), **added)
    return type(pipe)(**pipe.components | dict(text_encoder_2=CLIPTextModelWithProjection(config), unet=unet))

@pytest.fixture(scope='module')
def single(tmp_path_factory):
    "A folder with a pipeline, its configurations alone, and one file with its weights; the pipeline"
    d = tmp_path_factory.mktemp('single')
    pipe = tiny_families(['SD 1.5'])['SD 1.5'].pipe
    save_both(pipe, d)
    return d, pipe

def same(d, *parts):
    "Is the file loaded as the folder is, and does it draw the same image?"
    pipe, other = load_pipeline(d/'model.safetensors', config=str(d/'configurations')), load_pipeline(d/'teacher')
    for part in parts:
        ours, theirs = getattr(pipe, part).state_dict(), getattr(other, part).state_dict()
        assert ours.keys() == theirs.keys()
        for k, v in ours.items(): assert_close(v, theirs[k], rtol=0, atol=0)
    images = [p('a red star', height=16, width=16, num_inference_steps=2, output_type='pt',
                latents=torch.ones(1, 4, 8, 8)).images for p in (pipe, other)]
    assert_close(*images, rtol=0, atol=0)

def test_a_file_is_loaded_as_its_folder(single): same(single[0], 'unet', 'vae', 'text_encoder')

def test_a_file_of_sdxl_is_loaded_as_its_folder(tmp_path):
    save_both(sdxl(), tmp_path)
    same(tmp_path, 'unet', 'vae', 'text_encoder', 'text_encoder_2')

def test_a_student_of_a_file(single, tmp_path):
    d, _ = single
    t = Teacher(name=str(d/'model.safetensors'), config=str(d/'configurations'), resolution=16, guidance_scale=1.)
    save_student(tmp_path/'student', Networks(load_teacher(t), Model(t, Student(lora_rank=2))), 2)
    assert student_note(tmp_path/'student')[1]['config'] == t.config
    load_student(tmp_path/'student', d/'teacher')       # the same weights in another form
    assert source_of(t) == t.config

def refused(says, name, config=''):
    with pytest.raises(ValueError) as e: load_pipeline(name, config=str(config))
    assert '\n' not in str(e.value) and says in str(e.value), str(e.value)

def test_what_is_wrong_with_a_file_is_one_line(single, tmp_path):
    d, _ = single
    tensors = load_file(d/'model.safetensors')
    (tmp_path/'cut.safetensors').write_bytes((d/'model.safetensors').read_bytes()[:5000])
    refused('model.teacher.name: cannot', tmp_path/'cut.safetensors', d/'configurations')
    refused('model.teacher.name: cannot read', tmp_path/'cut.safetensors')
    refused('model.teacher.config: no model_index.json in', d/'model.safetensors', tmp_path)
    for name, change in (('none', {}), ('part', {k: v for k, v in tensors.items() if 'out.2' not in k}),
                         ('text', {k: v for k, v in tensors.items() if 'cond_stage' not in k}),
                         ('nan', tensors | {'model.diffusion_model.out.2.bias': torch.full((4,), torch.nan)})):
        save_file(change, tmp_path/f'{name}.safetensors')
        refused('model.teacher.name: ', tmp_path/f'{name}.safetensors', d/'configurations')
    (tmp_path/'model.gguf').touch()
    refused('is a file; expected', tmp_path/'model.gguf')

def test_configurations_are_checked_before_anything_is_loaded(single, tmp_path):
    d, _ = single
    given = [f'output={tmp_path}/run', f'model.teacher.name={d}/model.safetensors']
    check_files(load_config('halving', *given, f'model.teacher.config={d}/configurations'))
    with pytest.raises(ValueError, match='model.teacher.config: cannot load'):
        check_files(load_config('halving', *given, 'model.teacher.config=/is/not/there'))

def test_weights_in_several_files_and_of_a_variant(single, tmp_path):
    "A folder whose weights are sharded or of half precision alone"
    d, pipe = single
    pipe.save_pretrained(tmp_path/'sharded', max_shard_size='100KB')
    assert len(list((tmp_path/'sharded'/'unet').glob('*.safetensors'))) > 1
    shutil.copytree(d/'teacher', tmp_path/'half')
    for p in (tmp_path/'half').rglob('*.safetensors'): p.rename(p.with_name(f'{p.stem}.fp16.safetensors'))
    want = load_pipeline(d/'teacher').unet.state_dict()
    for name in ('sharded', 'half'):
        for k, v in load_pipeline(tmp_path/name).unet.state_dict().items(): assert_close(v, want[k], rtol=0, atol=0)

def answer(status): return SimpleNamespace(status_code=status, headers={}, request=None)

@pytest.fixture
def hub(single, monkeypatch):
    "A hub that has one model, in one revision; what it was asked for"
    d, _ = single
    asked = []
    def model_info(self, name, revision=None, timeout=None):
        if (name, revision) == ('me/gated', 'v1'): raise GatedRepoError('', response=answer(403))
        if (name, revision) != ('me/model', 'v1'): raise RevisionNotFoundError('', response=answer(404))
    def download(name, **options):
        asked.append((name, options['revision']))
        return d/'teacher'
    monkeypatch.setattr('huggingface_hub.HfApi.model_info', model_info)
    monkeypatch.setattr(DiffusionPipeline, 'download', download)
    return asked

def test_a_revision_of_the_hub(single, hub, tmp_path):
    "A student is distilled from it, names it, and is loaded on it"
    t = Teacher(name='me/model@v1', resolution=16, guidance_scale=1.)
    save_student(tmp_path/'student', Networks(load_teacher(t), Model(t, Student(lora_rank=2))), 2)
    assert student_note(tmp_path/'student')[1]['teacher'] == 'me/model@v1'
    load_student(tmp_path/'student')
    assert set(hub) == {('me/model', 'v1')}
    with pytest.raises(ValueError, match='runs: the teacher is a revision on the hub'):
        plan_export([tmp_path/'student'], 'me/four', None, fused=False, licence=None, prompt=None)

def test_a_revision_that_is_not_there_and_a_gated_model_are_one_line(hub):
    refused("no folder 'me/model@v2', and the hub does not give a model of that name", 'me/model@v2')
    refused("'me/gated@v1' is gated: accept its conditions on https://huggingface.co/me/gated, then log in", 'me/gated@v1')
    refused('no such folder', 'me@v1')

def test_the_configurations_of_a_revision_are_read(single, monkeypatch):
    d, asked = single[0], []
    plain_config = ConfigMixin.__dict__['load_config'].__func__
    def load_config(cls, place, revision=None, **options):
        asked.append(revision)
        return plain_config(cls, d/'teacher', **options)
    plain = CLIPTextConfig.from_pretrained
    monkeypatch.setattr(DiffusionPipeline, 'load_config', classmethod(load_config))
    for cls in (UNet2DConditionModel, AutoencoderKL):
        monkeypatch.setattr(cls, 'load_config', classmethod(load_config))
    def text(place, revision, **options):
        asked.append(revision)
        return plain(d/'teacher', **options)
    monkeypatch.setattr(CLIPTextConfig, 'from_pretrained', text)
    assert architecture('me/model@v1') == architecture(d/'teacher')
    assert set(asked[:4]) == {'v1'}
    assert architecture('stabilityai/stable-diffusion-xl-base-1.0@v1').pipeline == 'StableDiffusionXLPipeline'
