"""Runs of sail by turns: what is compared is measured in the same minutes, and a figure is the median over the rounds."""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def options(description, rounds):
    ap = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--sail", default=os.path.join(HERE, "../build/sail"))
    ap.add_argument("--model", required=True, help="a Hugging Face folder or a .gguf file")
    ap.add_argument("--dtype", default="bf16")
    ap.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    if rounds:
        ap.add_argument("--rounds", type=int, default=rounds)
        ap.add_argument("--out", help="a folder where finished runs stay: what was stopped goes on there")
    return ap


@contextlib.contextmanager
def folder(a):
    """Where rows and finished runs are kept: --out, or nowhere for longer than this."""
    if a.out:
        os.makedirs(a.out, exist_ok=True)
        yield a.out
    else:
        with tempfile.TemporaryDirectory() as path:
            yield path


def sail(a, *arguments):
    """What the program wrote on stdout."""
    p = subprocess.run([a.sail, *(str(x) for x in arguments)], capture_output=True, text=True)
    if p.returncode:
        sys.exit("%s: %s" % (" ".join([a.sail, *(str(x) for x in arguments)]), p.stderr.strip()))
    return p.stdout


def bench(a, what, *arguments, threads=None):
    return json.loads(sail(a, "bench", what, "--model", a.model, "--dtype", a.dtype, "--threads", threads or a.threads, "--json", "--quiet", *arguments))


def by_turns(folder, rounds, runs, of=""):
    """name -> the results of its runs; runs: name -> a function that makes one. What was finished in the folder before is not run again; of: what else the name depends on."""
    path, results = os.path.join(folder, "runs.jsonl"), {name: [] for name in runs}
    key = lambda name, k: "%s%s, round %d" % (of, name if isinstance(name, str) else ", threads ".join(map(str, name)), k + 1)
    done = {}
    if os.path.exists(path):
        with open(path) as f:
            done = dict(json.loads(line) for line in f)
    for k in range(rounds):
        for name, one in runs.items():
            if key(name, k) not in done:
                done[key(name, k)] = one()
                with open(path, "a") as f:
                    f.write(json.dumps([key(name, k), done[key(name, k)]]) + "\n")
                print("%s of %d" % (key(name, k), rounds), file=sys.stderr, flush=True)
            results[name].append(done[key(name, k)])
    return results


def median(results, value):
    return statistics.median(value(r) for r in results)


def ratio(results, to, value):
    """Median and range of the rounds' own ratios: what slows a round down slows both."""
    all_of = sorted(value(x) / value(y) for x, y in zip(results, to))
    return statistics.median(all_of), all_of[0], all_of[-1]


def machine(results):
    m = next(iter(results.values()))[0]["machine"]
    return "%s, %d cores, %.0f MiB, %s" % (m["processor"], m["cores"], m["memory_mib"], m["instructions"])
