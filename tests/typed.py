"""What type checkers see of a package whose classes grow by `@patch`: each such method stands in its class.

`python tests/typed.py` writes the stubs that are shipped, `pdd_nb/*.pyi`; `python tests/typed.py --check` runs mypy.
"""
import ast, re, subprocess, sys, tempfile
from pathlib import Path

root = Path(__file__).parent.parent
package = root/'pdd_nb'

def patches(function):
    "The `@patch` among a function's decorators, or `None`"
    for d in function.decorator_list:
        name = d.func if isinstance(d, ast.Call) else d
        if isinstance(name, ast.Name) and name.id == 'patch': return d
    return None

def patched_class(function):
    "The name of the class that a patched method belongs to"
    first = (function.args.posonlyargs + function.args.args)[0]
    return first.annotation.id if isinstance(first.annotation, ast.Name) else None

def as_method(lines, function):
    "The lines of a patched function, as a method: pairs of text and line number"
    decorator, owner = patches(function), patched_class(function)
    is_property = isinstance(decorator, ast.Call) and any(k.arg == 'as_prop' for k in decorator.keywords)
    start = function.decorator_list[0].lineno
    out = []
    for number in range(start, function.end_lineno + 1):
        text = lines[number - 1]
        if number == decorator.lineno:
            if not is_property: continue
            text = '@property'
        if number == function.lineno: text = re.sub(rf'\(self: *{owner}\b', '(self', text, count=1)
        out.append(('    ' + text if text else '', number))
    return start, out

def opened(lines, cls):
    "The lines of a class, its body on lines of its own"
    found = [(lines[n - 1], n) for n in range(cls.lineno, cls.end_lineno + 1)]
    body = cls.body[0]
    if body.lineno != cls.lineno: return found
    head = lines[cls.lineno - 1]
    return [(head[:body.col_offset].rstrip(), cls.lineno), ('    ' + head[body.col_offset:], cls.lineno), *found[1:]]

def merged(source):
    "A module with its patched methods in their classes, and the line of the source that each line comes from"
    lines, tree = source.split('\n'), ast.parse(source)
    classes = {c.name: c for c in tree.body if isinstance(c, ast.ClassDef)}
    methods, moved = {}, set()
    for f in tree.body:
        if not isinstance(f, ast.FunctionDef) or not patches(f) or patched_class(f) not in classes: continue
        start, text = as_method(lines, f)
        methods.setdefault(patched_class(f), []).append(text)
        moved |= set(range(start, f.end_lineno + 1))
    ends = {c.end_lineno: c for c in classes.values()}
    inside = {n for c in classes.values() for n in range(c.lineno, c.end_lineno)}
    out = []
    for number, text in enumerate(lines, 1):
        if number in ends:
            cls = ends[number]
            out += opened(lines, cls)
            for method in methods.get(cls.name, []): out += [('', number), *method]
        elif number not in moved and number not in inside: out.append((text, number))
    return '\n'.join(t for t, _ in out), [n for _, n in out]

def write_merged(folder):
    "The package as type checkers should see it; returns the line numbers of each module"
    folder.mkdir(parents=True)
    numbers = {}
    for f in sorted(package.glob('*.py')):
        text, numbers[f.name] = merged(f.read_text(encoding='utf-8'))
        (folder/f.name).write_text(text, encoding='utf-8')
    return numbers

def check(*options, cache=None):
    "Run mypy over the package: status and its output, with the lines of the modules as they are"
    with tempfile.TemporaryDirectory() as d:
        numbers = write_merged(Path(d)/'pdd_nb')
        args = ['--config-file', root/'pyproject.toml', '--cache-dir', cache or f'{d}/cache', *options]
        r = subprocess.run([sys.executable, '-m', 'mypy', *args], cwd=d, capture_output=True, text=True)
    def line(m): return f'pdd_nb/{m[1]}:{numbers[m[1]][int(m[2]) - 1]}:'
    return r.returncode, re.sub(r'^pdd_nb/(\w+\.py):(\d+):', line, r.stdout, flags=re.M) + r.stderr

def stubs():
    "The stubs of the package, by file name"
    with tempfile.TemporaryDirectory() as d:
        write_merged(Path(d)/'pdd_nb')
        run = [sys.executable, '-m', 'mypy.stubgen', '--quiet', '--package', 'pdd_nb', '--output', 'out']
        subprocess.run(run, cwd=d, check=True, capture_output=True)
        found = sorted((Path(d)/'out'/'pdd_nb').glob('*.pyi'))
        return {f.name: f.read_text(encoding='utf-8') for f in found if f.stem not in ('_modidx', '__main__')}

if __name__ == '__main__':
    if '--check' in sys.argv:
        status, text = check(*[a for a in sys.argv[1:] if a != '--check'])
        print(text, end='')
        sys.exit(status)
    for name, text in stubs().items(): (package/name).write_text(text, encoding='utf-8')
