"Text encoders and the denoiser are not on a GPU together. Here `cpu:0` stands for the GPU."
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pdd_nb.families import pipeline_images, tiny_families

def moves(f, monkeypatch, call):
    "Where the parts of a family are moved while something is called"
    names, log, to = {id(m): k for k, m in f.pipe.components.items() if isinstance(m, nn.Module)}, [], nn.Module.to
    def noted(m, *args, **kw):
        if id(m) in names: log.append((names[id(m)], str(args[0])))
        return to(m, *args, **kw)
    with monkeypatch.context() as patched:
        patched.setattr(nn.Module, 'to', noted)
        call()
    return log

def together(f, log):
    "Were a text encoder and the denoiser on the device at once?"
    there = {f.part}
    for name, device in log:
        there = there | {name} if device == 'cpu:0' else there - {name}
        if f.part in there and any(k.startswith('text_encoder') for k in there): return True
    return False

def test_text_encoders_and_the_denoiser_take_turns(monkeypatch):
    f = tiny_families(['SDXL'])['SDXL']
    f.share('cpu:0')
    log = moves(f, monkeypatch, lambda: (f.encode(['a', 'b']), f.null()))
    assert ('text_encoder_2', 'cpu:0') in log and not together(f, log)
    assert log[-1] != ('unet', 'cpu') and str(f.device) == 'cpu:0'
    with f.reading(): assert not moves(f, monkeypatch, lambda: f.encode(['a']))         # one turn for many calls
    f.quantized = 'nf4'                                     # a quantised denoiser stays
    assert ('unet', 'cpu') not in moves(f, monkeypatch, lambda: f.encode(['a']))
    f.quantized, f.divided = '', True                       # one whose weights are divided over processes is not touched
    assert {name for name, _ in moves(f, monkeypatch, lambda: f.encode(['a']))} == {'text_encoder', 'text_encoder_2', 'vae'}

@pytest.mark.parametrize('name', ['PixArt-Sigma', 'FLUX.1', 'FLUX.2 klein'])
def test_a_pipeline_draws_from_conditions_what_it_draws_from_prompts(name):
    f = tiny_families([name])[name]
    noise = torch.randn(2, *f.shape, generator=torch.Generator().manual_seed(0))
    prompts = ['a red star', 'another']
    want = pipeline_images(f, prompts, noise, 2, f.unguided + 2)
    f.share('cpu')
    assert_close(pipeline_images(f, prompts, noise, 2, f.unguided + 2), want, rtol=0, atol=1e-5)
