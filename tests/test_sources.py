"Data as people keep it: changed since, odd, too large, or not what it seems. Whatever is wrong is said; nothing is lost."
import csv, io, json, logging, os, sys, tarfile, threading, time

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pdd_nb.config import Data, Evaluation, check_files, load_config
from pdd_nb.data import Folder, HuggingFace, Item, Nearest, Source, check_evaluated, check_source, image_files, open_source, prepare, read_image, read_prompts
from pdd_nb.encoded import Encoded, preencode, store_trajectories

class Teacher:
    "Its latents are small images; it counts what it encodes"
    name, fingerprint, resolution, device = 'toy', 'abc', 16, 'cpu'
    def __init__(self): self.images, self.captions = 0, []
    def latents(self, x):
        self.images += len(x)
        return x[:, :, ::4, ::4]
    def encode(self, texts):
        self.captions += texts
        return dict(emb=torch.tensor([[float(len(t))] for t in texts]))

def picture(k, size=(40, 40)): return Image.new('RGB', size, (37*k % 256, 91*k % 256, 53*k % 256))

def png(k):
    b = io.BytesIO()
    picture(k).save(b, 'png')
    return b.getvalue()

def folder(d, n=6, suffix='.png', captions=True):
    d.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        picture(k).save(d/f'{k}{suffix}')
        if captions: (d/f'{k}.txt').write_text(f'a rad circle {k}')
    return d

def encode(source, to, teacher=None, **kw): return preencode(teacher or Teacher(), source, to, **dict(batch=2, shard=2, quiet=True) | kw)

def contents(d): return {p.name: p.read_bytes() for p in d.iterdir() if not p.name.startswith('.')}

def wrong(f, *a, **kw):
    "The one line of the error that a call raises"
    with pytest.raises(ValueError) as e: f(*a, **kw)
    assert '\n' not in str(e.value)
    return str(e.value)

# ---- what was encoded is identified by its content

def write_txt(d, word, shift):
    for k in range(6):
        picture(k + shift).save(d/f'{k}.bmp')
        (d/f'{k}.txt').write_text(f'a {word} circle {k}')
    return str(d)

def write_jsonl(d, word, shift):
    for k in range(6): picture(k + shift).save(d/f'{k}.bmp')
    rows = [dict(file_name=f'{k}.bmp', text=f'a {word} circle {k}') for k in range(6)]
    (d/'metadata.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    return str(d)

def write_csv(d, word, shift):
    for k in range(6): picture(k + shift).save(d/f'{k}.bmp')
    with open(d/'metadata.csv', 'w', newline='') as f:
        csv.writer(f).writerows([['file_name', 'text'], *[[f'{k}.bmp', f'a {word} circle {k}'] for k in range(6)]])
    return str(d)

def write_tar(d, word, shift):
    with tarfile.open(d/'s.tar', 'w') as t:
        for k in range(6):
            for name, b in ((f'{k}.png', png(k + shift)), (f'{k}.txt', f'a {word} circle {k}'.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(b)
                t.addfile(info, io.BytesIO(b))
    return str(d/'s.tar')

def write_parquet(d, word, shift):
    import datasets
    datasets.disable_progress_bars()
    rows = dict(image=[dict(bytes=png(k + shift), path=None) for k in range(6)], text=[f'a {word} circle {k}' for k in range(6)])
    datasets.Dataset.from_dict(rows).cast_column('image', datasets.Image()).to_parquet(d/'a.parquet')
    return f'hf:{d}/a.parquet'

FORMS = [write_txt, write_jsonl, write_csv, write_tar, write_parquet]

@pytest.mark.parametrize('write', FORMS, ids=lambda f: f.__name__[6:])
@pytest.mark.parametrize('change', [('red', 0), ('rad', 7)], ids=['caption', 'image'])
def test_what_changed_is_encoded_again(write, change, tmp_path):
    def opened(*how): return open_source(Data(source=write(tmp_path, *how)))
    was = encode(opened('rad', 0), tmp_path/'enc')
    z = was.load_all()[0]['z'].clone()
    now = encode(opened(*change), tmp_path/'enc')
    fresh = encode(opened(*change), tmp_path/'fresh')
    assert now.captions()[0] == f'a {change[0]} circle 0'
    assert torch.equal(now.load_all()[0]['z'], z) == (change[1] == 0)
    assert contents(tmp_path/'enc') == contents(tmp_path/'fresh')

@pytest.mark.parametrize('write', FORMS, ids=lambda f: f.__name__[6:])
def test_the_same_content_is_not_encoded_again(write, tmp_path):
    encode(open_source(Data(source=write(tmp_path, 'rad', 0))), tmp_path/'enc')
    again = Teacher()
    encode(open_source(Data(source=write(tmp_path, 'rad', 0))), tmp_path/'enc', again)    # written anew, the same bytes
    assert (again.images, again.captions) == (1, [])                                      # to know the size of a latent

def test_a_change_is_seen_though_time_and_size_are_the_same(tmp_path, monkeypatch):
    import pdd_nb.shards as S
    monkeypatch.setattr(S, '_SETTLED', 0)                                                 # hashes are remembered at once
    d = folder(tmp_path/'p')
    encode(Folder(d), tmp_path/'enc')
    assert len(json.loads((tmp_path/'enc'/'.files.json').read_text())) == 12
    at = os.stat(d/'0.txt').st_mtime_ns
    (d/'0.txt').write_text('a red circle 0')
    os.utime(d/'0.txt', ns=(at, at))
    assert encode(Folder(d), tmp_path/'enc').captions()[0] == 'a red circle 0'

def test_only_the_shards_that_changed_are_encoded_again(tmp_path):
    d = folder(tmp_path/'p')
    encode(Folder(d), tmp_path/'enc')
    (d/'3.txt').write_text('a red circle 3')
    again = Teacher()
    encode(Folder(d), tmp_path/'enc', again)
    assert again.images == 1 + 2 and again.captions == ['', 'a rad circle 2', 'a red circle 3']

def test_a_change_while_a_pass_was_interrupted(tmp_path):
    class Dies(Teacher):
        def latents(self, x):
            if self.images > 3: raise KeyboardInterrupt
            return super().latents(x)
    d = folder(tmp_path/'p')
    with pytest.raises(KeyboardInterrupt): encode(Folder(d), tmp_path/'enc', Dies())
    (d/'0.txt').write_text('a red circle 0')
    encode(Folder(d), tmp_path/'enc')
    encode(Folder(d), tmp_path/'fresh')
    assert contents(tmp_path/'enc') == contents(tmp_path/'fresh')

def test_only_files_that_the_index_lists_are_removed(tmp_path):
    d = folder(tmp_path/'p')
    encode(Folder(d), tmp_path/'enc')
    for n in ('notes.txt', 'latents-00009.safetensors'): (tmp_path/'enc'/n).write_text('mine')
    for k in (2, 3, 4, 5): (d/f'{k}.png').unlink()
    encode(Folder(d), tmp_path/'enc')
    left = contents(tmp_path/'enc')
    assert [left.pop(n) for n in ('notes.txt', 'latents-00009.safetensors')] == [b'mine']*2
    encode(Folder(d), tmp_path/'fresh')
    assert left == contents(tmp_path/'fresh')

def test_an_index_cannot_remove_files_elsewhere(tmp_path):
    d = folder(tmp_path/'p')
    encode(Folder(d), tmp_path/'enc')
    (tmp_path/'mine.txt').write_text('mine')
    index = json.loads((tmp_path/'enc'/'index.json').read_text())
    index['rows'].append(dict(index['rows'][0], file='../mine.txt'))
    (tmp_path/'enc'/'index.json').write_text(json.dumps(index))
    (d/'0.txt').write_text('a red circle 0')
    encode(Folder(d), tmp_path/'enc')
    assert (tmp_path/'mine.txt').read_text() == 'mine'

def test_other_data_another_teacher_and_foreign_folders_are_refused(tmp_path):
    encode(Folder(folder(tmp_path/'p')), tmp_path/'enc')
    before = contents(tmp_path/'enc')
    assert 'was made from' in wrong(encode, Folder(folder(tmp_path/'q', 4)), tmp_path/'enc')
    other = Teacher()
    other.fingerprint = 'def'
    assert "was made with weights 'abc'" in wrong(encode, Folder(tmp_path/'p'), tmp_path/'enc', other)
    assert contents(tmp_path/'enc') == before
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'bad.jsonl').write_text('mine')
    assert 'bad.jsonl, which would be overwritten' in wrong(encode, Folder(tmp_path/'p'), tmp_path/'mine')
    for text in ('{"pages": 3}', '[]', '{"kind": "encoded", "complete": true, "weights": "abc", "rows": [{}]}'):
        (tmp_path/'mine'/'index.json').write_text(text)
        assert 'is not the index of encoded data' in wrong(encode, Folder(tmp_path/'p'), tmp_path/'mine')
    assert (tmp_path/'mine'/'bad.jsonl').read_text() == 'mine'

def test_a_folder_of_an_earlier_version_is_encoded_again(tmp_path):
    d = folder(tmp_path/'p')
    encode(Folder(d), tmp_path/'enc')
    fresh = contents(tmp_path/'enc')
    index = json.loads(fresh['index.json']) | dict(source='0123')
    del index['origin']
    (tmp_path/'enc'/'index.json').write_text(json.dumps(index))
    for p in (tmp_path/'enc').glob('latents-*'): save_file(dict(z=torch.zeros(2, 3, 4, 4)), p, dict(note='{"captions": [], "bad": []}'))
    encode(Folder(d), tmp_path/'enc')
    assert contents(tmp_path/'enc') == fresh

def test_changed_prompts_make_other_trajectories(tmp_path):
    def store(to, prompts):
        def walk(z, c): return [z + c['emb'].mean()]*3
        return store_trajectories(walk, Teacher(), prompts, (1, 2, 2), 2, tmp_path/to, batch=2, shard=2, quiet=True)
    store('tr', ['a', 'bb', 'ccc', 'd'])
    assert store('tr', ['a', 'bb']).captions() == ['a', 'bb']
    store('fresh', ['a', 'bb'])
    assert contents(tmp_path/'tr') == contents(tmp_path/'fresh')

@pytest.mark.parametrize('crop', ('center', 'random'))
def test_the_number_of_workers_changes_nothing(tmp_path, crop):
    folder(tmp_path/'d', 12)
    for n in (1, 4): encode(Folder(tmp_path/'d'), tmp_path/f'by {n}', workers=n, crop=crop)
    assert contents(tmp_path/'by 1') == contents(tmp_path/'by 4')

# ---- a user is told

def test_what_is_merged_or_left_out_is_told_each_time(tmp_path, caplog):
    d = folder(tmp_path/'p', captions=False)
    rows = ''.join(json.dumps(dict(file_name=f'{k}.png', text=f'a circle {k}')) + '\n' for k in range(4))
    (d/'metadata.jsonl').write_text(rows + rows.split('\n')[0] + '\n')
    (d/'5.txt').write_text('beside')
    for name in ('enc', 'enc'):
        caplog.clear()
        assert encode(Folder(d), tmp_path/name).index['items'] == 5
        (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert 'left out: 1' in line and '.txt files: 1' in line and 'repeat another one' in line and '\n' not in line

def test_two_tables_that_disagree_are_refused(tmp_path):
    d = folder(tmp_path/'p', captions=False)
    (d/'metadata.jsonl').write_text('{"file_name": "0.png", "text": "new"}\n')
    (d/'metadata.csv').write_text('file_name,text\n0.png,old\n')
    assert 'give 1 images different captions, such as 0.png' in wrong(Folder, d)
    (d/'metadata.csv').write_text('file_name,text\n0.png,new\n')
    assert [it.caption for it in Folder(d)] == ['new']                                  # once, not twice

def test_bad_items_are_told(tmp_path, caplog):
    d = folder(tmp_path/'p')
    (d/'1.txt').unlink()
    encode(Folder(d), tmp_path/'enc')
    assert '1 of 6 items are bad and left out' in caplog.text

def test_file_names_are_no_captions(tmp_path):
    import datasets
    datasets.disable_progress_bars()
    def write(**more):
        rows = dict(image=[dict(bytes=png(k), path=None) for k in range(3)], filename=[f'{k}.png' for k in range(3)], **more)
        datasets.Dataset.from_dict(rows).cast_column('image', datasets.Image()).to_parquet(tmp_path/'a.parquet')
        return f'{tmp_path}/a.parquet'
    lists = HuggingFace(write(caption=[[f'a circle {k}', 'round'] for k in range(3)]))
    assert [it.caption for it in lists] == ['a circle 0', 'a circle 1', 'a circle 2'] and 'lists' in lists.notes[0]
    assert 'its columns are image, filename' in wrong(HuggingFace, write())
    assert [it.caption for it in HuggingFace(write(), caption_column='filename')][0] == '0.png'    # if that is what is asked for

# ---- odd files

def within(seconds, f):
    "A call that must not hang: its value, or its error"
    got = []
    def run():
        try: got.append(f())
        except Exception as e: got.append(e)
    t = threading.Thread(target=run, daemon=True)
    t.start()
    t.join(seconds)
    assert got, 'it hangs'
    return got[0]

def test_a_pipe_is_never_opened(tmp_path):
    d = folder(tmp_path/'p')
    os.mkfifo(d/'7.png')
    (d/'7.txt').write_text('a pipe')
    (d/'5.txt').unlink()
    os.mkfifo(d/'5.txt')
    enc = within(20, lambda: encode(Folder(d), tmp_path/'enc'))
    assert enc.index['bad'] == 2
    listed = (tmp_path/'enc'/'bad.jsonl').read_text()
    assert 'a pipe, not a regular file' in listed and '7.png' in listed and '5.png' in listed
    os.mkfifo(d/'metadata.csv')
    assert 'a pipe' in str(within(10, lambda: Folder(d)))
    os.mkfifo(tmp_path/'p.txt')
    assert 'a pipe' in str(within(10, lambda: read_prompts(tmp_path/'p.txt')))
    os.mkfifo(tmp_path/'p.tar')
    os.mkfifo(tmp_path/'p.parquet')
    for s in (f'{tmp_path}/p.tar', f'hf:{tmp_path}/p.parquet'):
        e = within(20, lambda: open_source(Data(source=s)))
        assert isinstance(e, ValueError) and 'a pipe' in str(e)

@pytest.mark.parametrize('name', [3, ['a.png'], None, '', '\ud800.png', 'a\0.png', 'x'*300 + '.png'])
def test_a_table_with_odd_names(name, tmp_path):
    d = folder(tmp_path/'p', captions=False)
    rows = [dict(file_name=name, text='odd'), *(dict(file_name=f'{k}.png', text=f'{k}') for k in range(3))]
    (d/'metadata.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    assert encode(Folder(d), tmp_path/'enc').index['bad'] == 1

def test_a_row_with_more_fields_than_columns(tmp_path):
    d = folder(tmp_path/'p', captions=False)
    (d/'metadata.csv').write_text('file_name,text\n0.png,a star,and more\n1.png\n')
    assert [it.caption for it in Folder(d)] == ['a star', '']
    (d/'metadata.csv').write_text('file_name,title\n0.png,a star,and more\n')
    assert 'its columns are file_name, title' in wrong(Folder, d)

def test_captions_that_are_not_utf8_are_bad_items(tmp_path):
    d = folder(tmp_path/'p')
    (d/'0.txt').write_bytes(b'fen\xeatre')
    (d/'1.txt').write_bytes(b'x'*(2**20 + 1))
    assert encode(Folder(d), tmp_path/'enc').index['bad'] == 2
    assert 'not UTF-8' in (tmp_path/'enc'/'bad.jsonl').read_text()

def test_two_members_of_one_name(tmp_path):
    write_tar(tmp_path, 'red', 0)
    with tarfile.open(tmp_path/'s.tar', 'a') as t:
        info = tarfile.TarInfo('5.png')
        info.size = 4
        t.addfile(info, io.BytesIO(b'xxxx'))
    enc = encode(open_source(Data(source=f'{tmp_path}/s.tar')), tmp_path/'enc')
    (line,) = (tmp_path/'enc'/'bad.jsonl').read_text().splitlines()
    assert enc.index['items'] == 5 and 's.tar: 5' in line and 'two members named 5.png' in line

# ---- too large

def test_a_huge_image_is_refused_from_its_header(tmp_path):
    for k, side in enumerate((12_000, 14_000)): Image.new('1', (side, side)).save(tmp_path/f'{k}.png')
    start = time.perf_counter()
    for p in image_files(tmp_path): assert 'pixels' in wrong(read_image, p)
    assert time.perf_counter() - start < 1

def test_images_that_are_decoded_together_share_a_limit(tmp_path, monkeypatch):
    import pdd_nb.data as D
    d = folder(tmp_path/'p', 12)
    limit, most, real = D._Budget(40*40*2), [], D.to_rgb
    monkeypatch.setattr(D, '_decoding', limit)
    def slow(im):
        most.append(limit.used)
        time.sleep(.01)
        return real(im)
    monkeypatch.setattr(D, 'to_rgb', slow)
    encode(Folder(d), tmp_path/'enc', workers=8, shard=12)
    assert max(most) <= 40*40*2 and limit.used == 0

def test_a_tar_that_would_fill_the_memory(tmp_path):
    with tarfile.open(tmp_path/'z.tar', 'w:gz') as t:
        info = tarfile.TarInfo('a.png')
        info.size = 2**26
        t.addfile(info, io.BytesIO(bytes(2**26)))
    assert 'compressed, expected a plain tar file' in wrong(check_source, Data(source=f'{tmp_path}/z.tar'))
    info.size = 2**40                                                                    # what the header claims
    (tmp_path/'h.tar').write_bytes(info.tobuf() + bytes(2**20))
    assert 'h.tar: not a whole tar file' in wrong(lambda: [prepare(it, 16) for it in open_source(Data(source=f'{tmp_path}/h.tar'))])
    with open(tmp_path/'s.tar', 'wb') as f:                                              # 300 MB of nothing
        info.size = 300*10**6
        text = tarfile.TarInfo('a.txt')
        text.size = 1
        f.write(info.tobuf())
        f.seek(-(-info.size//512)*512, 1)
        f.write(text.tobuf() + b'a'.ljust(512, b'\0') + bytes(1024))
    (item,) = open_source(Data(source=f'{tmp_path}/s.tar'))
    assert '300000000 bytes, more than' in wrong(prepare, item, 16)

# ---- told early, stopped at once

def test_what_the_file_system_shows_is_checked_at_once(tmp_path):
    d = tmp_path/'many'
    d.mkdir()
    for k in range(2000): (d/f'{k}.dat').touch()
    start = time.perf_counter()
    for s in ('nowhere', '', d, f'{d}/x.tar', f'{d}/x.txt', f'hf:{d}/x'): assert wrong(check_source, Data(source=str(s))).startswith('data.source: ')
    picture(0).save(d/'a.png')
    check_source(Data(source=str(d)))
    assert time.perf_counter() - start < 1

def test_ctrl_c_does_not_wait_for_the_queue(tmp_path):
    class Slow(Source):
        settings = 'slow',
        def __len__(self): return 200
        def __getitem__(self, i): return Item(f'{i}', lambda: time.sleep(.05) or picture(i), 'slow')
    class Stopped(Teacher):
        def latents(self, x):
            self.at = time.perf_counter()
            if self.images: raise KeyboardInterrupt
            return super().latents(x)
    t = Stopped()
    with pytest.raises(KeyboardInterrupt): encode(Slow(), tmp_path/'enc', t, workers=2, batch=32, shard=200)
    assert time.perf_counter() - t.at < 1                                                # 64 wait: 1.6 s

def test_nothing_that_is_not_finite_is_stored(tmp_path):
    class Half(Teacher):
        def latents(self, x): return super().latents(x).masked_fill(x[:, :, ::4, ::4] > .99, float('nan'))
    d = folder(tmp_path/'p')
    Image.new('RGB', (40, 40), 'white').save(d/'3.png')
    assert "latents of 1 of 2 items are not finite, such as '3.png'" in wrong(encode, Folder(d), tmp_path/'enc', Half())
    assert not (tmp_path/'enc'/'latents-00001.safetensors').exists()
    class Mute(Teacher):
        def encode(self, texts): return dict(emb=torch.full((len(texts), 1), float('inf')))
    assert 'text embeddings of 2 of 2' in wrong(encode, Folder(d), tmp_path/'enc2', Mute())
    assert not list((tmp_path/'enc2').glob('text-*'))

# ---- object storage, here a server of HTTP that gives parts of files

def tar_of(path, *members): # name and bytes each
    with tarfile.open(path, 'w') as t:
        for name, b in members:
            info = tarfile.TarInfo(name)
            info.size = len(b)
            t.addfile(info, io.BytesIO(b))

@pytest.fixture
def server(tmp_path):
    "Address of a server for the files in `tmp_path`; `/refused/` needs a permission; what is named in `cut` breaks off"
    import asyncio
    from aiohttp import web
    async def refuse(_): raise web.HTTPForbidden
    @web.middleware
    async def cut(request, handler):
        "Close the connection half-way, for parts of a file that start at the byte that `cut` gives for it, or later"
        rules = json.loads((tmp_path/'cut').read_text()) if (tmp_path/'cut').exists() else {}
        first = rules.get(request.path[1:])
        if request.method == 'HEAD' or first is None or (request.http_range.start or 0) < first: return await handler(request)
        answer = web.StreamResponse(status=206, headers={'Content-Length': '1000'})
        await answer.prepare(request)
        await answer.write(bytes(500))
        request.transport.close()
        return answer
    async def begin():
        app = web.Application(middlewares=[cut])
        app.router.add_get('/refused/{name}', refuse)
        app.router.add_static('/', tmp_path)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, '127.0.0.1', 0).start()
        return runner
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    yield f'http://127.0.0.1:{runner.addresses[0][1]}'
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()

def test_shards_and_prompts_of_a_server_are_those_of_the_disk(tmp_path, server):
    for k in (0, 1): tar_of(tmp_path/f'{k}.tar', *[(f'{3*k + i}.{e}', b) for i in range(3) for e, b in (('png', png(3*k + i)), ('txt', b'a star %d' % i))])
    (tmp_path/'p.txt').write_text('a star\na circle\n')
    local, remote = [open_source(Data(source=f'{place}/{{0..1}}.tar')) for place in (tmp_path, server)]
    for a, b in zip(local, remote, strict=True):
        torch.testing.assert_close(prepare(a, 16)[0], prepare(b, 16)[0])
        assert prepare(a, 16)[1:] == prepare(b, 16)[1:]
    assert open_source(Data(source=f'{server}/p.txt')).texts == ['a star', 'a circle']
    encode(remote, tmp_path/'encoded')
    again = Teacher()
    encode(open_source(Data(source=f'{server}/{{0..1}}.tar')), tmp_path/'encoded', again)
    assert again.images <= 1                                           # nothing has changed: no more than an example is encoded
    tar_of(tmp_path/'1.tar', ('9.png', png(9)), ('9.txt', b'another star'))
    changed = open_source(Data(source=f'{server}/{{0..1}}.tar'))
    assert changed.fingerprint({}) != remote.fingerprint({})
    encode(changed, tmp_path/'encoded')
    assert len(Encoded(tmp_path/'encoded')) == 4

def test_what_a_store_refuses_is_one_line(tmp_path, server):
    def said(source): return wrong(open_source, Data(source=source))
    assert said(f'{server}/none.tar').startswith(f"data.source: {server}/none.tar: 404, message='Not Found'")
    assert '403' in said(f'{server}/refused/a.tar') and 'cannot read' in said(f'{server}/refused/p.txt')
    assert '127.0.0.1:1' in said('http://127.0.0.1:1/a.tar')           # nobody listens there
    tar_of(tmp_path/'0.tar', ('0.png', png(0)), ('0.txt', b'a star'))
    assert f"data.source: {server}/1.tar: 404, message='Not Found'" in said(f'{server}/{{0..1}}.tar')
    (tmp_path/'1.tar').write_bytes((tmp_path/'0.tar').read_bytes()[:600])
    with pytest.raises(ValueError, match='1.tar: not a whole tar file'): list(open_source(Data(source=f'{server}/{{0..1}}.tar')))
    assert said('s3://bucket/a.tar').startswith('data.source: s3://bucket/a.tar: Install s3fs to access S3')

def test_prompts_of_an_evaluation_may_lie_in_a_store(tmp_path, server):
    import fsspec
    from pdd_nb.evaluation import check_protocol, prompts_of
    (tmp_path/'p.txt').write_text('a star\na circle\n')
    fsspec.filesystem('memory').pipe('/evaluated/p.txt', b'a star\na circle\n')
    for place in (f'{server}/p.txt', 'memory://evaluated/p.txt'):
        p = Evaluation(prompts=2, prompts_from=place)
        check_protocol(p)
        assert prompts_of(p) == (['a star', 'a circle'], None, None)
        assert f'at most the 2 prompts of {place}' in wrong(prompts_of, Evaluation(prompts=3, prompts_from=place))
        check_evaluated(p)

def test_prompts_of_an_evaluation_that_a_store_refuses_are_found_before_training(tmp_path, server):
    from pdd_nb.evaluation import prompts_of
    (tmp_path/'latin.txt').write_bytes('fenêtre'.encode('latin-1'))
    (tmp_path/'p.text').write_text('a star')
    for place, reason in {f'{server}/none.txt': "404, message='Not Found'", f'{server}/refused/p.txt': '403', 'http://127.0.0.1:1/p.txt': '127.0.0.1:1',
                          's3://bucket/p.txt': 'Install s3fs to access S3', 'nowhere://p.txt': 'Protocol not known: nowhere', 'memory://none.txt': 'no such file',
                          f'{server}/latin.txt': 'not UTF-8 in line 1', f'{server}/p.text': 'expected an address that ends with .txt',
                          f'{server.replace("//", "//me:secret@")}/p.txt': 'was given with a user and a password'}.items():
        cfg = load_config('halving', f'output={tmp_path}/run', f'evaluation.prompts_from={place}')
        early = wrong(check_files, cfg) if 'secret' in place else wrong(check_evaluated, cfg.evaluation)
        for told in (early, wrong(prompts_of, cfg.evaluation)):
            assert told.startswith('evaluation.prompts_from: ') and reason in told and 'secret' not in told, told
    assert not (tmp_path/'run').exists()

# ---- a connection that is cut says nothing of the data

REPEAT = 'if the connection was cut, repeat the command'

def two_shards(d):
    for k in (0, 1): tar_of(d/f'{k}.tar', *[(f'{3*k + i}.{e}', b) for i in range(3) for e, b in (('png', png(3*k + i)), ('txt', b'a star %d' % i))])

@pytest.mark.parametrize('first', (0, 1), ids=('headers', 'an image'))
def test_a_connection_that_is_cut_while_a_shard_is_read_is_told_and_made_good_by_the_next_call(tmp_path, server, first):
    def opened(): return open_source(Data(source=f'{server}/{{0..1}}.tar'))
    two_shards(tmp_path)
    encode(opened(), tmp_path/'whole')
    (tmp_path/'cut').write_text(json.dumps({'1.tar': first}))
    told = wrong(encode, opened(), tmp_path/'encoded')
    assert told.startswith(f'data.source: {server}/1.tar: ') and REPEAT in told and 'tar file' not in told, told
    assert not (tmp_path/'encoded'/'bad.jsonl').exists()               # no item is at fault
    (tmp_path/'cut').unlink()
    again = Teacher()
    encode(opened(), tmp_path/'encoded', again)
    assert again.images == 1 + 4 and contents(tmp_path/'encoded') == contents(tmp_path/'whole')

def test_a_connection_that_is_cut_while_a_source_is_opened(tmp_path, server):
    two_shards(tmp_path)
    (tmp_path/'p.txt').write_text('a star')
    (tmp_path/'cut').write_text(json.dumps({'0.tar': 0, 'p.txt': 0}))
    told = wrong(open_source, Data(source=f'{server}/{{0..1}}.tar'))
    assert told.startswith(f'data.source: {server}/0.tar: ') and REPEAT in told, told
    told = wrong(open_source, Data(source=f'{server}/p.txt'))
    assert told.startswith(f'data.source: cannot read {server}/p.txt (') and REPEAT in told, told
    assert REPEAT in wrong(open_source, Data(source='http://127.0.0.1:1/a.tar'))

def test_no_image_of_a_lost_connection_counts_as_square(tmp_path, server):
    two_shards(tmp_path)
    source = open_source(Data(source=f'{server}/0.tar'))
    (tmp_path/'cut').write_text(json.dumps({'0.tar': 1}))
    assert REPEAT in wrong(list, Nearest(source, [(64, 64), (96, 48)], 0))

def test_a_caption_that_is_cut_off_is_not_the_fault_of_its_item(tmp_path, server):
    two_shards(tmp_path)
    source = open_source(Data(source=f'{server}/0.tar'))
    (tmp_path/'cut').write_text(json.dumps({'0.tar': 1}))
    assert REPEAT in wrong(list, source)

# ---- what a store says of its files

def test_shards_without_hash_and_time_are_noted(tmp_path, caplog, monkeypatch):
    import fsspec
    memory, place = fsspec.filesystem('memory'), 'memory://noted/0.tar'
    two_shards(tmp_path)
    memory.put(f'{tmp_path}/0.tar', '/noted/0.tar')
    for keys in (('size', 'created'), ('size',)):
        said = {k: v for k, v in memory.info('/noted/0.tar').items() if k in keys}
        with monkeypatch.context() as m:
            m.setattr(type(memory), 'info', lambda self, path, **kw: said)
            caplog.clear()
            encode(open_source(Data(source=place)), tmp_path/'-'.join(keys))
        assert caplog.text.count('neither a hash nor a time of 1 of 1 shards') == (len(keys) == 1)

@pytest.mark.parametrize('tag', (dict(mtime=5), dict(modify='20260101120000'), dict(modificationTime=7), dict(ETag='abc')), ids=lambda t: next(iter(t)))
def test_the_time_that_a_store_gives_identifies_a_shard(monkeypatch, tag):
    import pdd_nb.data as D
    class Fs:
        def info(self, name): return dict(name=name, size=3, type='file', **tag)
    monkeypatch.setattr(D, '_place', lambda address: (Fs(), 'a.tar'))
    assert D._stored('any://a.tar') == [3, str(*tag.values())]

def test_the_first_shard_of_a_store_is_checked_once(tmp_path, monkeypatch):
    import pdd_nb.data as D
    two_shards(tmp_path)
    import fsspec
    fsspec.filesystem('memory').put(f'{tmp_path}/0.tar', '/once/0.tar')
    seen, check = [], D._check_tar
    monkeypatch.setattr(D, '_check_tar', lambda path: seen.append(path) or check(path))
    open_source(Data(source='memory://once/0.tar'))
    assert seen == ['memory://once/0.tar']
