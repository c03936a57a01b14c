"A run of halving and matching in two processes, cut, killed and gone on with in one, beside the same run in one process."
import json, os, signal, sys
from pathlib import Path

import torch
from accelerate import PartialState
from torch.distributed.tensor import DTensor

from pdd_nb import trainer
from pdd_nb.config import load_config
from pdd_nb.families import tiny_families
from pdd_nb.recorder import Recorder
from pdd_nb.trainer import Trainer
from processes import together

folder = Path(sys.argv[1])
torch.set_num_threads(1)
own = trainer.save_student, Recorder.samples
trainer.save_student = lambda *args: None                   # what one process writes by itself is tested elsewhere
Recorder.samples = Recorder.plots = lambda *args: None
SMALL = [f'model.teacher.name={folder/"random"}', 'model.teacher.resolution=16', 'device=cpu', 'threads=1',
         'model.teacher.num_inference_steps=8', 'model.student.num_inference_steps=4', 'model.student.lora_rank=4',
         'data.train_size=32', 'data.valid_size=4', 'evaluation.prompts=0', 'curriculum.update_interval=3', 'training.batch_size=2',
         'training.steps=4', 'training.validate_every=4', 'training.checkpoint_every=4',
         'distillation.matching.students=[4]', 'distillation.matching.updates=6', 'distillation.matching.head_start=1']

def run(name, *args):
    return Trainer(load_config('default', f'output={folder/name}', *SMALL, *args), quiet=True)

def cut():
    "Stop between two readings"
    run('two').run(stop_at=2)

def killed():
    "Go on; both write down the state at step 8, and process 1 dies at step 9"
    rank = int(os.environ['RANK'])
    def control(t):
        if t.step == 8:
            state = {k: o.state_dict() for k, o in t.objectives.items()}
            (folder/f'state-{rank}.json').write_text(json.dumps(state), encoding='utf-8')
        if t.step == 9 and rank: os.kill(os.getpid(), signal.SIGKILL)
    try: run('two').run(control=control)
    except ValueError as e: (folder/'message').write_text(str(e), encoding='utf-8')

def divided(**options):
    "The same run with the base's weights divided, as a file for `accelerate launch` says; students and sample images are written"
    os.environ.update(ACCELERATE_USE_FSDP='true', FSDP_VERSION='2', FSDP_RESHARD_AFTER_FORWARD='true')
    trainer.save_student, Recorder.samples = own
    t = run('divided')
    whole = sum(p.numel() for p in t.nets.net.parameters())
    held = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in t.nets.net.parameters())
    t.run(**options)
    (folder/f'held-{os.environ["RANK"]}.json').write_text(json.dumps([held, whole]), encoding='utf-8')

if __name__ == '__main__':
    tiny_families(['SD 1.5'])['SD 1.5'].pipe.save_pretrained(folder/'random')
    run('one', 'training.accumulation=2').run()             # first, so that all libraries are loaded before the others begin
    PartialState._reset_state()
    assert together(cut) == [0, 0]
    assert together(killed) == [0, signal.SIGKILL]
    run('two').run()
    PartialState._reset_state()
    assert together(lambda: divided(stop_at=6)) == [0, 0]
    assert together(divided) == [0, 0]
