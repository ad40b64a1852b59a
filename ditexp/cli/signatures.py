"""What the classes of components accept, read from their source: importing them would import torch."""

from __future__ import annotations

import ast
import functools

from ditexp.cli.packaged import PACKAGE

Arguments = dict[str, str]  # the annotation of each argument by its name, as it is written; "" if there is none


@functools.cache
def arguments_of(target: str) -> Arguments | None:
    """The arguments of one of ditexp's classes or functions; None if it accepts any, or is from elsewhere."""
    module, _, name = target.rpartition(".")
    tree = tree_of(module)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return of_function(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return of_class(node, module)
        if isinstance(node, ast.ImportFrom) and any((each.asname or each.name) == name for each in node.names):
            return arguments_of(f"{node.module}.{name}")
    return None


@functools.cache
def tree_of(module: str) -> ast.Module | None:
    """None if it is not a module of ditexp."""
    first, *rest = module.split(".")
    file = PACKAGE.joinpath(*rest).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")) if first == "ditexp" and file.is_file() else None


def of_function(node: ast.FunctionDef) -> Arguments | None:
    if node.args.kwarg:
        return None
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return {each.arg: ast.unparse(each.annotation) if each.annotation else "" for each in arguments}


def of_class(node: ast.ClassDef, module: str) -> Arguments | None:
    """Those of its __init__, its own or inherited; a dataclass adds its fields to those of the classes above."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            found = of_function(part)
            return found and {name: kind for name, kind in found.items() if name != "self"}
    above = [found for base in node.bases if (found := arguments_of(f"{module}.{ast.unparse(base).split('[')[0]}"))]
    if not any(ast.unparse(each).startswith("dataclass") for each in node.decorator_list):
        return above[0] if above else {}
    fields: Arguments = {}
    for inherited in reversed(above):
        fields |= inherited
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and is_argument(part):
            fields[ast.unparse(part.target)] = ast.unparse(part.annotation)
    return fields


def is_argument(field: ast.AnnAssign) -> bool:
    is_set_later = field.value is not None and "init=False" in ast.unparse(field.value)
    return not is_set_later and not ast.unparse(field.annotation).startswith("ClassVar")
