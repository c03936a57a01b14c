"A teacher and settings with which a run takes a second: few layers, and adapters on two of them."
import pytest

from pdd_nb.families import tiny_families
from pdd_nb.tiny import tiny_unet

SMALL = ['device=cpu', 'model.teacher.resolution=16', 'model.student.lora_rank=4', 'model.student.lora_targets=[to_q]',
         'distillation.matching.students=[]', 'data.train_size=24', 'training.batch_size=4', 'training.checkpoint_every=2',
         'training.lr_warmup=2', 'curriculum.update_interval=2', 'evaluation.prompts=0']

def save_teacher(folder):
    "A pipeline of Stable Diffusion with attention in the middle alone"
    pipe = tiny_families(['SD 1.5'])['SD 1.5'].pipe
    pipe.unet = tiny_unet(down_block_types=['DownBlock2D']*2, up_block_types=['UpBlock2D']*2)
    pipe.save_pretrained(folder)
    return folder

@pytest.fixture(scope='module', autouse=True)
def quick():
    "Curves take half of the time and play no part; autouse where it is imported"
    import pdd_nb.recorder
    with pytest.MonkeyPatch.context() as m:
        m.setattr(pdd_nb.recorder, 'curve', lambda *a, **k: b'')
        yield
