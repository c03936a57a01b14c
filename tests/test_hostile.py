"""Damaged and hostile files: understood, or refused in one line with a `ValueError`; never a traceback, a hang or a claim on memory.

300 configurations, 200 settings and 338 damaged files, code and pickles in the place of weights; with NB_FLAGS=slow 10,000, 2,000 and 2,000."""
import io, json, os, random, resource, shutil, signal, struct, tarfile, time
from pathlib import Path

import pytest, torch, yaml
from PIL import Image

from pdd_nb.config import DistillConfig, all_keys, load_config, save_config
from pdd_nb.data import Tars, prepare, read_image
from pdd_nb.folders import MARKER, read_json, read_marker, write_marker
from pdd_nb.state import load_state, load_tensors, save_state, save_tensors

SLOW = 'slow' in os.environ.get('NB_FLAGS', '')
LONGEST = 20                                    # seconds for one input, on a busy machine

class Late(BaseException): "A hang; no Exception, which the reading of images takes for damage"

@pytest.fixture(autouse=True)
def bounded():
    "A hang is an error, and so is more than 4 GiB beyond what the process has now"
    def late(*_): raise Late
    old, limits = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4*2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.alarm(0); signal.signal(signal.SIGALRM, old)

def accepted(f, *args):
    "Whether a call understands its input; it may only refuse it in one line"
    signal.alarm(LONGEST)
    try: f(*args)
    except ValueError as e:
        assert type(e) is ValueError and '\n' not in str(e) and len(str(e)) < 2000, repr(e)[:2000]
        return False
    finally: signal.alarm(0)
    return True

def mutated(data, rng, tokens=()):
    "Some bytes changed, cut, repeated, moved or inserted"
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        i, j = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(7)
        if kind == 0 and data: data[min(i, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1: del data[i:]
        elif kind == 2: del data[i:min(j, i + 50)]
        elif kind == 3: data[i:i] = data[i:min(j, i + 200)]*rng.choice((1, 3))
        elif kind == 4: data[i:i] = rng.randbytes(rng.randrange(9))
        elif kind == 5 and tokens: data[i:i + rng.randrange(9)] = rng.choice(tokens)
        else: data[i:i + 8] = struct.pack('<Q', rng.choice((0, 1, 2**31, 2**40, 2**63, 2**64 - 1)))
    return bytes(data)

# configurations

TOKENS = [b'null', b'~', b'[', b']', b'{', b'}', b'- ', b': ', b'\n', b'  ', b'&a', b'*a', b'!!python/object:os.system', b'!!binary', b'<<: *a', b'"', b"'", b'%', b'|', b'>', b'#',
          b'.inf', b'.nan', b'1e999', b'9'*50, b'-1', b'true', b'2024-01-01', b'\xff', b'\x00', b'\xe2\x80\xa8', b'../../etc', b'---', b'? ', b'=']

def test_configurations(tmp_path):
    rng, whole, path = random.Random(0), tmp_path/'whole.yaml', tmp_path/'c.yaml'
    save_config(load_config('default'), whole)
    understood, n = 0, 10_000 if SLOW else 300
    for _ in range(n):
        path.write_bytes(mutated(whole.read_bytes(), rng, TOKENS))
        understood += accepted(load_config, path)
    assert 0 < understood < n

def test_settings(tmp_path):
    rng, keys = random.Random(1), all_keys(DistillConfig())
    for _ in range(2000 if SLOW else 200):
        text = f'{rng.choice(keys)}={mutated(b"[1, 2]", rng, TOKENS).decode("utf-8", "surrogateescape")}'
        accepted(load_config, 'default', text)

def test_a_configuration_that_expands(tmp_path):
    "Nine lists of nine references each, at nine levels: 9⁹ entries"
    for key in ('output', 'training', 'training: {steps', 'model: {teacher: {name', 'nothing'):
        lines = ['a0: &a0 [x]', *[f'a{k}: &a{k} [{", ".join([f"*a{k-1}"]*9)}]' for k in range(1, 10)]]
        (tmp_path/'c.yaml').write_text('\n'.join([*lines, f'{key}: *a9' + '}'*key.count('{')]))
        assert not accepted(load_config, tmp_path/'c.yaml')

# safetensors and JSON

def test_safetensors(tmp_path):
    rng, path = random.Random(2), tmp_path/'a.safetensors'
    save_tensors(path, dict(w=torch.arange(12.).view(3, 4), n=torch.arange(5), h=torch.zeros(7, dtype=torch.bfloat16)))
    whole = path.read_bytes()
    tokens = [b'"F64"', b'[0,9999999999]', b'[99999999999,99999999999]', b'{', b'}', b'"dtype"', b'-1', b'null', b'\xff']
    for _ in range(500 if SLOW else 100):
        path.write_bytes(mutated(whole, rng, tokens))
        accepted(load_tensors, path)
    for header in (b'{"a":{"dtype":"F32","shape":[2684354560],"data_offsets":[0,10737418240]}}', b'['*10000, b'{"a":'*5000, b'9'*100):
        path.write_bytes(struct.pack('<Q', len(header)) + header)             # 10 GiB are claimed
        assert not accepted(load_tensors, path)
    path.write_bytes(struct.pack('<Q', 10*2**30))
    assert not accepted(load_tensors, path)

def test_json_and_markers(tmp_path):
    rng, d = random.Random(3), tmp_path/'ck'
    save_state(d, dict(step=3, text='a', list=[1, 2]), w=dict(w=torch.zeros(3)))
    tokens = [b'null', b'[', b'{', b'"', b'NaN', b'1e999', b'9'*5000, b'["'*3000, b'\\ud800', b'\xff', b'../', b'/etc/passwd', b'"files"', b'"kind"', b'3']
    for name in ('state.json', MARKER):
        whole = (d/name).read_bytes()
        for _ in range(200 if SLOW else 40):
            (d/name).write_bytes(mutated(whole, rng, tokens))
            for f in (lambda: read_json(d/name), lambda: read_marker(d), lambda: load_state(d)): accepted(f)
        (d/name).write_bytes(whole)
    load_state(d)

# pictures

def pictures():
    "Small images of each kind"
    for mode, kind in (('RGB', 'PNG'), ('RGBA', 'PNG'), ('P', 'PNG'), ('I;16', 'PNG'), ('RGB', 'JPEG'), ('CMYK', 'JPEG'), ('RGB', 'WEBP'), ('RGB', 'BMP'), ('P', 'GIF'), ('RGB', 'TIFF'), ('L', 'TIFF')):
        Image.new(mode, (40, 33)).save(buffer := io.BytesIO(), kind)
        yield kind, buffer.getvalue()

def test_pictures():
    rng = random.Random(4)
    for kind, whole in pictures():
        assert accepted(read_image, whole), kind
        for _ in range(50 if SLOW else 8): accepted(read_image, mutated(whole, rng))

def test_pictures_that_claim_more_than_they_have():
    "Headers of 2³¹ pixels a side, 140 million pixels of nothing in 20 KB, and a comment of 64 KB that unpacks to 64 MiB"
    ihdr = struct.pack('>IIBBBBB', 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    import zlib
    chunk = struct.pack('>I', len(ihdr)) + b'IHDR' + ihdr + struct.pack('>I', zlib.crc32(b'IHDR' + ihdr))
    bomb = io.BytesIO(); Image.new('1', (20000, 7000)).save(bomb, 'PNG')
    text = b'a\0\0' + zlib.compress(bytes(2**26))
    whole = dict(pictures())['PNG']
    chatty = whole[:33] + struct.pack('>I', len(text)) + b'zTXt' + text + struct.pack('>I', zlib.crc32(b'zTXt' + text)) + whole[33:]
    assert not accepted(read_image, chatty)
    for data in (b'\x89PNG\r\n\x1a\n' + chunk, b'BM' + b'\0'*16 + struct.pack('<ii', 2**31 - 1, 2**31 - 1) + b'\0'*40, bomb.getvalue()): assert not accepted(read_image, data)

# tars

def tar(members):
    "Bytes of a tar file"
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode='w') as t:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            t.addfile(info, io.BytesIO(data))
    return buffer.getvalue()

def member(name, kind=tarfile.REGTYPE, to=''):
    info = tarfile.TarInfo(name); info.type, info.linkname = kind, to
    return info

def read_all(path):
    "Read every item; bad ones may only be refused"
    for item in Tars(str(path)): accepted(prepare, item, 32)

def test_tars(tmp_path):
    rng, path = random.Random(5), tmp_path/'a.tar'
    whole = tar([(member(f'{k}.{s}'), data) for k in range(3) for s, data in (('png', dict(pictures())['PNG']), ('json', b'{"caption": "a star"}'))])
    tokens = [b'7777777', b'../', b'\x80' + b'\xff'*11, b'ustar', b'L', b'x', b'S', b'\0'*9]
    for _ in range(300 if SLOW else 60):
        path.write_bytes(mutated(whole, rng, tokens))
        accepted(read_all, path)

@pytest.mark.parametrize('kind', ('0', 'x', 'g', 'L', 'K', 'S', 'X'))
def test_a_tar_that_claims_10_gib(tmp_path, kind):
    "A file of 10 GiB, most of them a hole: an image, a table of attributes of one member or of all, a long name, a long link, a sparse file"
    info, path = member('a.png', kind.encode()), tmp_path/'a.tar'
    info.size = 10*2**30
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, info.size + 2048)
    accepted(read_all, path)

def test_links_and_paths_that_leave_a_tar(tmp_path):
    secret = tmp_path/'secret'; secret.mkdir()
    (secret/'a.txt').write_text('a secret'); (secret/'a.png').write_bytes(dict(pictures())['PNG'])
    png = dict(pictures())['PNG']
    odd = [(member('../escaped.png'), png), (member('../escaped.txt'), b'x'), (member(f'{tmp_path}/absolute.png'), png), (member(f'{tmp_path}/absolute.txt'), b'x'),
           (member('a.png', tarfile.SYMTYPE, str(secret/'a.png')), b''), (member('a.txt', tarfile.LNKTYPE, str(secret/'a.txt')), b''), (member('d', tarfile.SYMTYPE, str(secret)), b''),
           (member('d/a.txt'), b'x'), (member('p.png', tarfile.FIFOTYPE), b''), (member('c.png', tarfile.CHRTYPE), b'')]
    (tmp_path/'a.tar').write_bytes(tar(odd))
    before = sorted(tmp_path.rglob('*'))
    captions = [item.caption for item in Tars(str(tmp_path/'a.tar'))]
    accepted(read_all, tmp_path/'a.tar')
    assert 'a secret' not in captions and sorted(tmp_path.rglob('*')) == before           # nothing is unpacked

# tokenizers

def test_tokenizers(tmp_path):
    from pdd_nb.families import load_pipeline, tiny_families
    rng, d = random.Random(6), tmp_path/'teacher'
    tiny_families(['SD 1.5'])['SD 1.5'].pipe.save_pretrained(d)
    files = [p for p in [*d.glob('tokenizer/*'), d/'model_index.json', d/'scheduler/scheduler_config.json', d/'text_encoder/config.json', d/'unet/config.json'] if p.is_file()]
    tokens = [b'null', b'[', b'{}', b'"', b'-1', b'9'*30, b'1e999', b'\xff', b'true', b'"../../x"', b'[]']
    for k in range(250 if SLOW else 10):
        path = files[k % len(files)]
        whole = path.read_bytes()
        path.write_bytes(mutated(whole, rng, tokens))
        try: accepted(load_pipeline, d)
        except Exception as e: raise AssertionError(f'{path.name}: {path.read_bytes()[:3000]!r}') from e
        path.write_bytes(whole)

# code and pickles

class Boom:
    "A pickle that makes a file when it is read"
    def __init__(self, file): self.file = str(file)
    def __reduce__(self): return open, (self.file, 'w')

def evil(file, code):
    "A Python file that runs when it is imported"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'open({str(code)!r}, "w")\nfrom diffusers import StableDiffusionPipeline as Evil\n')

def changed(file, **values):
    "Change values of a JSON file"
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | values))

CODE = dict(pipeline=(dict(_class_name=['pipeline', 'Evil']), 'pipeline.py'), network=(dict(unet=['evil', 'Evil']), 'unet/evil.py'),
            scheduler=(dict(scheduler=['evil', 'Evil']), 'scheduler/evil.py'), module=(dict(feature_extractor=['evil_module', 'Evil']), 'evil_module.py'),
            tokenizer=(dict(tokenizer=['transformers', 'AutoTokenizer']), 'tokenizer/evil.py'), encoder=(dict(text_encoder=['transformers', 'AutoModel']), 'text_encoder/evil.py'),
            model=(dict(unet=['diffusers', 'AutoModel']), 'unet/evil.py'))

@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "A teacher, and its pipeline"
    from pdd_nb.families import tiny_families
    d, pipe = tmp_path_factory.mktemp('plain')/'teacher', tiny_families(['SD 1.5'])['SD 1.5'].pipe
    pipe.save_pretrained(d)
    return d, pipe

@pytest.mark.parametrize('kind', CODE)
def test_the_code_of_a_teacher_is_never_run(plain, tmp_path, monkeypatch, kind):
    from pdd_nb.families import load_pipeline
    (index, name), d, ran = CODE[kind], Path(shutil.copytree(plain[0], tmp_path/'teacher')), tmp_path/'ran'
    monkeypatch.syspath_prepend(str(d))                                    # as in the folder of the teacher
    changed(d/'model_index.json', **index)
    evil(d/name, ran)
    for auto, file in (('AutoTokenizer', 'tokenizer/tokenizer_config.json'), ('AutoModel', 'text_encoder/config.json'), ('AutoModel', 'unet/config.json')):
        changed(d/file, auto_map={auto: 'evil.Evil'})
    assert not accepted(load_pipeline, d) and not ran.exists()

@pytest.mark.parametrize('part', ('unet', 'vae', 'text_encoder'))
@pytest.mark.parametrize('weights', ('harmless', 'boom'))
def test_pickled_weights_of_a_teacher_are_never_read(plain, tmp_path, part, weights):
    from pdd_nb.families import load_pipeline
    d, ran = Path(shutil.copytree(plain[0], tmp_path/'teacher')), tmp_path/'ran'
    for f in (d/part).glob('*.safetensors'): f.unlink()
    file = d/part/('pytorch_model.bin' if part == 'text_encoder' else 'diffusion_pytorch_model.bin')
    torch.save(Boom(ran) if weights == 'boom' else getattr(plain[1], part).state_dict(), file)
    with pytest.raises(ValueError, match=f'^model.teacher.name: cannot load {d}/{part} .*safetensors'): load_pipeline(d)
    assert not ran.exists()

def test_pickled_loras_are_never_read(plain, tmp_path, monkeypatch):
    "Of a teacher, and of a student; a harmless one neither"
    from pdd_nb.config import Model, Student
    from pdd_nb.families import add_lora, family_of
    from pdd_nb.models import Networks, load_student, save_student
    from safetensors.torch import load_file
    nets = Networks(family_of(plain[1], str(plain[0])), Model(student=Student(lora_rank=2)))
    save_student(tmp_path/'student', nets, 2)
    lora = tmp_path/'student/pytorch_lora_weights.safetensors'
    for name, weights in (('harmless', load_file(lora)), ('boom', Boom(tmp_path/'ran'))):
        (tmp_path/name).mkdir()
        torch.save(weights, tmp_path/name/'pytorch_lora_weights.bin')
    monkeypatch.setattr(torch, 'load', lambda *a, **k: pytest.fail('a pickle is read'))
    for place in ('harmless', 'harmless/pytorch_lora_weights.bin', 'boom', 'boom/pytorch_lora_weights.bin'):
        with pytest.raises(ValueError, match='^model.teacher.loras: cannot add'): add_lora(plain[1], str(tmp_path/place), 1.)
    lora.unlink()
    shutil.copy(tmp_path/'boom/pytorch_lora_weights.bin', tmp_path/'student')
    with pytest.raises(ValueError, match='^checkpoint: no LoRA in'): load_student(tmp_path/'student')
    assert not (tmp_path/'ran').exists()
