"""Compiles Triton kernels ahead of time, for GPUs that need not be here, and reports what they use.

A program of its own, because a process that has Triton's interpreter switched on cannot compile:

    python tests/kernels/aot_compile.py < requests.json > reports.json

A request is {"module", "kernel", "types": {argument: type}, "constants": {argument: value}, "warps", "stages",
"arch"}; types are Triton's ("*fp32", "i32"); a constant that begins with "tl." is a member of triton.language. A report
holds registers a thread, bytes of stack a thread (what does not fit into registers is spilled there), bytes of shared
memory a block, the number of instructions, and how often each occurs in the loop that multiplies most; or {"error"} if
the compilation failed.
"""

import importlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


def compile_kernel(request: dict) -> dict[str, int]:
    kernel = getattr(importlib.import_module(request["module"]), request["kernel"])
    constants = {name: _constant(value) for name, value in request["constants"].items()}
    signature = {name: "constexpr" if name in constants else request["types"][name] for name in kernel.arg_names}
    # Tensors that PyTorch allocates begin at multiples of 16 bytes, and launches specialise on that.
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", request["arch"], 32)
    options = {"num_warps": request["warps"], "num_stages": request["stages"], "enable_fp_fusion": True}
    compiled = triton.compile(source, target=target, options=options)
    usage, assembly = (_inspect(compiled.asm["cubin"], option) for option in ("--dump-resource-usage", "--dump-sass"))
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    instructions = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z0-9.]+)([^;]*)", assembly, re.MULTILINE)
    return {
        "registers": int(registers),
        "stack": int(stack),
        "shared": compiled.metadata.shared,
        "instructions": len(instructions),
        "loop": _busiest_loop([(int(address, 16), name, rest) for address, name, rest in instructions]),
    }


def _busiest_loop(instructions: list[tuple[int, str, str]]) -> dict[str, int]:
    """How often each instruction occurs in the innermost loop that has most multiplications for its length."""
    loops = []
    for end, name, rest in instructions:
        target = re.search(r"0x([0-9a-f]+)", rest) if name.startswith("BRA") else None
        if target and int(target[1], 16) < end:
            start = int(target[1], 16)
            loops.append(Counter(name.split(".")[0] for at, name, _ in instructions if start <= at <= end))
    return dict(max(loops, key=lambda loop: (loop["FFMA"] + loop["DFMA"]) / loop.total(), default=Counter()))


def _constant(value):
    return getattr(tl, value.removeprefix("tl.")) if isinstance(value, str) and value.startswith("tl.") else value


def _inspect(cubin: bytes, option: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        tool = triton.knobs.nvidia.cuobjdump.path  # comes with Triton
        return subprocess.run([tool, option, str(path)], capture_output=True, text=True, check=True).stdout


def main() -> None:
    reports = []
    for request in json.load(sys.stdin):
        try:
            reports.append(compile_kernel(request))
        except Exception as error:
            reports.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(reports, sys.stdout)


if __name__ == "__main__":
    main()
