"Encode pictures and prompts in one process, then in two of which one dies twice; the folder `two` is copied after each death."
import os, shutil, signal, sys
from pathlib import Path

import torch
from accelerate import PartialState

from pdd_nb.data import Folder, SceneItems
from pdd_nb.encoded import preencode, store_trajectories
from pdd_nb.families import family_of, load_pipeline
from pdd_nb.sampling import to_pil
from processes import together

folder = Path(sys.argv[1])
torch.set_num_threads(1)

class Teacher:
    "The embedded one; process 1 kills itself at its call number `at`"
    family = family_of(load_pipeline(), 'embedded')
    def __init__(self):
        self.name, self.fingerprint, self.resolution, self.device = 'embedded', self.family.fingerprint, 64, 'cpu'
    def dies(self, at): self.left = at if os.environ.get('RANK') == '1' else 0
    def tick(self):
        self.left -= 1
        if self.left == 0: os.kill(os.getpid(), signal.SIGKILL)
    def encode(self, prompts): self.tick(); return self.family.encode(prompts)
    def latents(self, images): self.tick(); return self.family.latents(images)

def encode(name, deaths=(0, 0)): # the calls at which process 1 dies, for pictures and for prompts; 0: it lives
    teacher = Teacher()
    teacher.dies(deaths[0])
    preencode(teacher, Folder(folder/'pictures'), folder/name/'pictures', 'random', batch=8, shard=16, quiet=True)
    teacher.dies(deaths[1])
    def walk(z, c): return teacher.tick() or [z*k + c['prompt_embeds'].mean() for k in range(5)]
    store_trajectories(walk, teacher, [f'a {i%5}' for i in range(30)], (4, 16, 16), 4, folder/name/'prompts', n=60, batch=8, shard=16, quiet=True)

def draw():
    "100 scenes as files, with some bad ones"
    (folder/'pictures').mkdir()
    for i, it in enumerate(SceneItems(100)):
        to_pil(it.data).resize((64 + i, 64)).save(folder/'pictures'/f'{i:03}.png')
        (folder/'pictures'/f'{i:03}.txt').write_text('' if i == 30 else it.caption[:12])
    for i in (7, 50): (folder/'pictures'/f'{i:03}.png').write_bytes((folder/'pictures'/f'{i:03}.png').read_bytes()[:300])

if __name__ == '__main__':
    draw()
    encode('whole')
    PartialState._reset_state()
    for name, deaths in (('dead on pictures', (6, 0)), ('dead on prompts', (0, 4))):
        assert together(encode, 'two', deaths, ends=True)[1] == signal.SIGKILL
        shutil.copytree(folder/'two', folder/name)
    assert together(encode, 'two') == [0, 0]
