"""Folders made from each family's tiny pipeline by changing one thing: distilled rightly, or refused in one line before anything is trained.

All of them with NB_FLAGS=slow; else for each family the first that is fine and the first that is refused."""
import json, os, shutil

import pytest

from pdd_nb.families import check_teacher, family_of, load_pipeline, tiny_families
from pdd_nb.tiny import SIDES

SD, XL, PIX, S3, FX, SA = 'SD 1.5', 'SDXL', 'PixArt-Sigma', 'SD 3', 'FLUX.1', 'Sana'
CH, ZI, KL, QW, LU, AU = 'Chroma', 'Z-Image', 'FLUX.2 klein', 'Qwen-Image', 'Lumina 2', 'AuraFlow'
FINE = ''
BETAS = dict(beta_start=.00085, beta_end=.012, beta_schedule='scaled_linear')

def scheduler(kind, **config): return dict(_class_name=kind, **config)

# family; part; what is different in its configuration (a scheduler's class: all of it); the message, or that it is fine
CHANGES = [
    (SD, 'scheduler', scheduler('PNDMScheduler', **BETAS, skip_prk_steps=True), FINE),
    (SD, 'scheduler', scheduler('EulerDiscreteScheduler', **BETAS), FINE),
    (SD, 'scheduler', scheduler('EulerAncestralDiscreteScheduler', **BETAS), FINE),
    (SD, 'scheduler', scheduler('DPMSolverMultistepScheduler', **BETAS, use_karras_sigmas=True), FINE),
    (SD, 'scheduler', scheduler('UniPCMultistepScheduler', **BETAS), FINE),
    (SD, 'scheduler', scheduler('LCMScheduler', **BETAS, clip_sample=False), FINE),
    (SD, 'scheduler', scheduler('DDPMScheduler', **BETAS, clip_sample=False), FINE),
    (SD, 'scheduler', scheduler('DDPMScheduler', **BETAS), FINE),             # this pipeline sets clip_sample false itself
    (SD, 'scheduler', scheduler('EDMEulerScheduler'), 'its EDMEulerScheduler is not understood'),
    (SD, 'scheduler', scheduler('EDMDPMSolverMultistepScheduler'), 'is not understood'),
    (SD, 'scheduler', scheduler('CMStochasticIterativeScheduler'), 'is not understood'),
    (SD, 'scheduler', scheduler('FlowMatchHeunDiscreteScheduler'), 'is not understood'),
    (SD, 'scheduler', scheduler('CogVideoXDDIMScheduler', prediction_type='v_prediction', snr_shift_scale=3.), 'the noise levels of its'),
    (SD, 'scheduler', scheduler('FlowMatchEulerDiscreteScheduler', shift=3.), FINE),
    (SD, 'scheduler', scheduler('NoSuchScheduler'), 'model.teacher.name: '),
    (SD, 'scheduler', dict(clip_sample=True), FINE),
    (XL, 'scheduler', scheduler('DDIMScheduler', **BETAS), 'has clip_sample True'),
    (XL, 'scheduler', scheduler('DDIMScheduler', **BETAS, clip_sample=False), FINE),
    (SD, 'scheduler', dict(thresholding=True), 'has thresholding True'),
    (SD, 'scheduler', dict(rescale_betas_zero_snr=True), 'zero terminal SNR'),
    (SD, 'scheduler', dict(rescale_betas_zero_snr=True, prediction_type='v_prediction'), FINE),
    (SD, 'scheduler', dict(prediction_type='sample'), FINE),
    (SD, 'scheduler', dict(prediction_type='velocity'), 'model.teacher.name: '),
    (SD, 'scheduler', dict(beta_schedule='linear'), FINE),
    (SD, 'scheduler', dict(beta_schedule='squaredcos_cap_v2'), 'zero terminal SNR'),
    (SD, 'scheduler', dict(beta_schedule='sigmoid'), 'model.teacher.name: '),
    (SD, 'scheduler', dict(num_train_timesteps=500), FINE),
    (SD, 'scheduler', dict(timestep_spacing='linspace', steps_offset=0, set_alpha_to_one=False), FINE),
    (SD, 'unet', dict(sample_size=[8, 8]), FINE),
    (SD, 'unet', dict(sample_size=[8, 16]), FINE),
    (SD, 'unet', dict(center_input_sample=True), FINE),
    (SD, 'unet', dict(flip_sin_to_cos=False), FINE),
    (SD, 'unet', dict(class_embed_type='identity'), 'cannot draw an image'),
    (SD, 'unet', dict(in_channels=9), 'cannot load'),
    (SD, 'vae', dict(scaling_factor=.5), FINE),
    (SD, 'vae', dict(force_upcast=False), FINE),
    (SD, 'vae', dict(latents_mean=[.1]*4, latents_std=[2.]*4), FINE),
    (SD, 'vae', dict(latent_channels=8), 'cannot load'),
    (SD, 'text_encoder', dict(hidden_act='gelu'), FINE),
    (SD, 'text_encoder', dict(num_hidden_layers=3), 'is missing'),
    (XL, 'vae', dict(latents_mean=[.1, -.2, .3, 0.], latents_std=[8., 6., 7., 5.]), FINE),
    (XL, 'scheduler', dict(timestep_type='continuous', prediction_type='v_prediction'), 'is not understood'),
    (XL, 'scheduler', scheduler('EDMEulerScheduler', prediction_type='v_prediction', sigma_data=1.), 'is not understood'),
    (XL, 'unet', dict(sample_size=[8, 8]), FINE),
    (PIX, 'transformer', dict(sample_size=16), FINE),
    (PIX, 'scheduler', scheduler('DDIMScheduler', clip_sample=False), FINE),
    (S3, 'vae', dict(shift_factor=None), 'cannot draw an image'),
    (S3, 'vae', dict(shift_factor=.5, scaling_factor=.9), FINE),
    (S3, 'scheduler', dict(shift=1.), FINE),
    (S3, 'scheduler', dict(invert_sigmas=True), 'has invert_sigmas True'),
    (S3, 'scheduler', dict(use_karras_sigmas=True), FINE),
    (FX, 'scheduler', dict(use_dynamic_shifting=False), FINE),
    (FX, 'scheduler', dict(time_shift_type='linear'), FINE),
    (FX, 'scheduler', dict(shift_terminal=.1), FINE),
    (FX, 'scheduler', dict(base_shift=.1, max_shift=2.), FINE),
    (FX, 'vae', dict(shift_factor=None), 'cannot draw an image'),
    (SA, 'scheduler', scheduler('FlowMatchEulerDiscreteScheduler', shift=3.), FINE),
    (SA, 'vae', dict(scaling_factor=.9), FINE),
    (CH, 'scheduler', dict(use_dynamic_shifting=False, shift=2.), FINE),
    (CH, 'vae', dict(shift_factor=.5), FINE),
    (ZI, 'scheduler', dict(use_dynamic_shifting=True), FINE),
    (ZI, 'scheduler', dict(invert_sigmas=True), 'has invert_sigmas True'),
    (ZI, 'transformer', dict(rope_theta=64.), FINE),
    (ZI, 'transformer', dict(t_scale=500.), FINE),
    (KL, 'scheduler', dict(use_dynamic_shifting=False), FINE),
    (KL, 'vae', dict(batch_norm_eps=.1), FINE),
    (QW, 'scheduler', dict(shift_terminal=None), FINE),
    (QW, 'vae', dict(latents_mean=[0.]*4), FINE),
    (QW, 'transformer', dict(guidance_embeds=True), 'cannot draw an image'),
    (QW, 'transformer', dict(zero_cond_t=True), FINE),
    (LU, 'scheduler', dict(use_dynamic_shifting=True), FINE),
    (LU, 'scheduler', dict(num_train_timesteps=500), 'this variant is not understood'),
    (AU, 'scheduler', dict(shift=3.), FINE),
    (AU, 'transformer', dict(sample_size=16), FINE)]

def quick():
    "Positions of the first change of each family that is fine, and of the first that is refused"
    first = {}
    for k, (name, _, _, says) in enumerate(CHANGES):
        first.setdefault((name, bool(says)), k)
    return set(first.values())

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
TRIED = range(len(CHANGES)) if SLOW else sorted(quick())

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    "A function from the name of a tiny pipeline to its folder"
    d = tmp_path_factory.mktemp('teachers')
    def folder(name):
        if not (d/name).exists():
            tiny_families([name])[name].pipe.save_pretrained(d/name)
        return d/name
    return folder

def changed(source, to, part, change):
    "A copy of a folder with another configuration of one part; the weights are links"
    shutil.copytree(source, to, copy_function=lambda a, b: shutil.copy(a, b) if a.endswith('.json') else os.link(a, b))
    file = to/part/('scheduler_config.json' if part == 'scheduler' else 'config.json')
    old = json.loads(file.read_text(encoding='utf-8'))
    kind = change.get('_class_name')
    file.write_text(json.dumps(change if kind else old | change), encoding='utf-8')
    if kind:
        index = json.loads((to/'model_index.json').read_text(encoding='utf-8'))
        index['scheduler'] = ['diffusers', kind]
        (to/'model_index.json').write_text(json.dumps(index), encoding='utf-8')
    return to

@pytest.mark.parametrize('k', TRIED, ids=lambda k: f'{CHANGES[k][0]}-{CHANGES[k][1]}-{k}')
def test_one_change(k, folders, tmp_path):
    name, part, change, says = CHANGES[k]
    folder = changed(folders(name), tmp_path/'teacher', part, change)
    def check():
        f = family_of(load_pipeline(folder), folder, SIDES.get(name, 16))
        check_teacher(f, 3. if f.guidable else f.unguided)
    if not says: return check()
    with pytest.raises(ValueError) as e: check()
    assert '\n' not in str(e.value) and str(e.value).startswith('model.teacher.') and says in str(e.value)

def test_there_are_enough_of_them(): assert len(CHANGES) >= 60
