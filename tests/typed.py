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

def attributes(cls):
    "The public attributes that the methods of a class set on `self`"
    targets = [n for n in ast.walk(cls) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    own = [n.attr for n in targets if isinstance(n.value, ast.Name) and n.value.id == 'self']
    return sorted({name for name in own if not name.startswith('_')})

def declared(cls):
    "The names that the body of a class in a stub has"
    fields = [n.target.id for n in cls.body if isinstance(n, ast.AnnAssign)]
    return fields + [n.name for n in cls.body if isinstance(n, ast.FunctionDef)]

def with_attributes(stub, source):
    "A stub with those attributes of its classes that stubgen does not see: they are set several at a time"
    known = {c.name: c for c in ast.parse(source).body if isinstance(c, ast.ClassDef)}
    lines = stub.split('\n')
    for cls in sorted((c for c in ast.parse(stub).body if isinstance(c, ast.ClassDef)), key=lambda c: -c.lineno):
        if cls.name not in known or cls.body[0].lineno == cls.lineno or cls.decorator_list: continue     # empty; a dataclass
        missing = [a for a in attributes(known[cls.name]) if a not in declared(cls)]
        lines[cls.lineno:cls.lineno] = [f'    {a}: Incomplete' for a in missing]
    text = '\n'.join(lines)
    needs = 'Incomplete' in text and 'import Incomplete' not in text
    return 'from _typeshed import Incomplete\n' + text if needs else text

def with_optionals(stub):
    "A stub in which a parameter that is `None` by default may be `None`, as the package means it"
    lines, found = stub.split('\n'), []
    for f in ast.walk(ast.parse(stub)):
        if not isinstance(f, ast.FunctionDef): continue
        a = f.args
        positional = a.posonlyargs + a.args
        pairs = [*zip(positional[len(positional) - len(a.defaults):], a.defaults), *zip(a.kwonlyargs, a.kw_defaults)]
        for arg, default in pairs:
            if arg.annotation is None or not isinstance(default, ast.Constant) or default.value is not None: continue
            if '| None' not in ast.unparse(arg.annotation): found.append((arg.annotation.end_lineno, arg.annotation.end_col_offset))
    for line, column in sorted(found, reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:column] + ' | None' + text[column:]
    return '\n'.join(lines)

def stubs():
    "The stubs of the package, by file name"
    with tempfile.TemporaryDirectory() as d:
        write_merged(Path(d)/'pdd_nb')
        run = [Path(sys.executable).with_name('stubgen'), '--quiet', '--output', 'out', 'pdd_nb']
        subprocess.run(run, cwd=d, check=True, capture_output=True)
        found = sorted((Path(d)/'out'/'pdd_nb').glob('*.pyi'))
        found = [f for f in found if f.stem not in ('_modidx', '__main__')]
        sources = {f: (Path(d)/'pdd_nb'/f'{f.stem}.py').read_text(encoding='utf-8') for f in found}
        return {f.name: with_optionals(with_attributes(f.read_text(encoding='utf-8'), source)) for f, source in sources.items()}

if __name__ == '__main__':
    if '--check' in sys.argv:
        status, text = check(*[a for a in sys.argv[1:] if a != '--check'])
        print(text, end='')
        sys.exit(status)
    for old in package.glob('*.pyi'): old.unlink()
    for name, text in stubs().items(): (package/name).write_text(text, encoding='utf-8')
    (package/'py.typed').touch()
