"""Mistakes, each put into a copy of the project for the tests of its part to notice.

python tests/mutants.py [WORD ...]   tries those whose names have all the words; exit 1 if any lives
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    """Edits of files below the root, (file, right, wrong), and the tests of which one must fail."""

    tests: str  # what pytest is given, from within tests/
    edits: tuple[tuple[str, str, str], ...]


FLOW, COUPLING = "src/flowlab/flows/flow.py", "src/flowlab/flows/coupling.py"
JOB = "src/flowlab/job.py"
BASE, TAKING = "src/flowlab/flows/base.py", "src/flowlab/flows/points.py"
TABLES, RESULTS, SETTINGS, SWEEP, SWEEP_PLOTS, SWEEP_AXES, OVERVIEW = (
    f"src/flowlab/{name}.py"
    for name in (
        *("commands/tables", "runs/results", "runs/settings", "commands/sweep"),
        *("plots/sweep", "plots/sweep_axes", "plots/overview"),
    )
)
COMPARING, READING, LIKELIHOODS = (
    f"src/flowlab/runs/{name}.py" for name in ("comparing", "reading", "likelihoods")
)
FORMS, REPORT, PAIR = (f"src/flowlab/commands/{name}.py" for name in ("forms", "report", "pair"))
LOOP_TESTS = "test_training.py"
MODULE, DATA = "src/flowlab/training/module.py", "src/flowlab/training/data.py"
DIVERGENCE = "src/flowlab/targets/divergence.py"
SIGNALS, LIFE = "src/flowlab/signals.py", "src/flowlab/runs/life.py"
OUTPUT = "src/flowlab/commands/output.py"
PROCESSES, PAINTER = "src/flowlab/processes.py", "src/flowlab/painter.py"
CHECKPOINT = "src/flowlab/callbacks/checkpoint.py"
CONFIG, COMMAND_LINE = "src/flowlab/config.py", "src/flowlab/commands/train.py"
EXPLAIN, TERMINAL, HELP, SUGGEST = (
    f"src/flowlab/commands/{name}.py" for name in ("explain", "terminal", "help", "suggest")
)
RULES, SIZES = "src/flowlab/rules.py", "src/flowlab/sizes.py"
SIZES_TESTS = "test_sizes.py"
EXPLAINED = "test_command_line.py -k 'is_explained or makes_sense or welcome'"

TARGETS, SCHEDULES = "src/flowlab/targets/bimodal.py", "src/flowlab/training/schedules.py"
REPLICATES = "src/flowlab/training/replicates.py"
CALLBACKS, TABLE = "src/flowlab/callbacks", "src/flowlab/plots/table.py"
TURNING = "src/flowlab/targets/turning.py"
ENERGIES, SHEARED = "src/flowlab/targets/energies.py", "src/flowlab/targets/sheared.py"
CHECKERBOARD = "src/flowlab/targets/checkerboard.py"
EIGHT = "src/flowlab/targets/eight_gaussians.py"
FILES, RESUME = "src/flowlab/files.py", "src/flowlab/runs/resume.py"
DIRECTORY, CHECKPOINTS = "src/flowlab/runs/directory.py", "src/flowlab/runs/checkpoints.py"
EXPORT, LOGGER = "src/flowlab/export.py", "src/flowlab/logger.py"
LOOP, RUN = "src/flowlab/training/module.py", "src/flowlab/experiment.py"
OBJECTIVES, TRAINER = "src/flowlab/training/objectives", "src/flowlab/trainer.py"
LIKELIHOOD, OBJECTIVE, REVERSE_KL, ELBO = (
    f"{OBJECTIVES}/{name}.py" for name in ("likelihood", "objective", "reverse_kl", "elbo")
)
AUTOENCODER, DIAGNOSIS = "src/flowlab/flows/autoencoder.py", "src/flowlab/training/diagnosis.py"
PARTS = "src/flowlab/parts.py"
TRANSFORM, SOLVE = "src/flowlab/flows/transform.py", "src/flowlab/flows/solve.py"
UNIVARIATE, MADE = "src/flowlab/flows/univariate.py", "src/flowlab/flows/made.py"
AUTOREGRESSIVE = "src/flowlab/flows/autoregressive.py"
STACK, PLANAR = "src/flowlab/flows/stack.py", "src/flowlab/flows/planar.py"
RESIDUAL, FFJORD = "src/flowlab/flows/residual.py", "src/flowlab/flows/ffjord.py"
IMAGE, GLOW, PIXELS = (f"src/flowlab/flows/{name}.py" for name in ("image", "glow", "pixels"))
IMAGES, BITS = "src/flowlab/data/images.py", "src/flowlab/training/objectives/bits.py"
IMAGE_TESTS, IMAGES_TESTS = "test_image.py", "test_images.py -k 'not run'"
TANGENTS = "src/flowlab/flows/tangents.py"
AMORTISED, RIDGE, RADIAL, SYLVESTER, BNAF = (
    f"src/flowlab/flows/{name}.py" for name in ("amortised", "ridge", "radial", "sylvester", "bnaf")
)
AMORTISED_TESTS = "test_amortised.py"
LINEAR = "src/flowlab/flows/linear.py"
UNITS, GAUSSIAN = "src/flowlab/flows/units.py", "src/flowlab/training/objectives/gaussian.py"
NETS, BUILD = "src/flowlab/flows/nets.py", "src/flowlab/flows/__init__.py"
# the plane alone: elsewhere a mask used again trips over shapes before a test can judge it
FLOW_TESTS = "test_flows.py test_coupling.py -k 'coupling-2 or coupling-random or normal'"
CONTEXT_TESTS = "test_flows_use.py -k 'context and (decides or given_contexts)'"
LAYER_TESTS = "test_flows_use.py -k 'layers_are_the_flow'"
DIRECTION_TESTS = "test_flows_use.py -k direction_sampling"
SOLVER_TESTS = "test_solve.py"

CELLS, DEGENERATE, POINTS, TEXT_FILES = (
    f"src/flowlab/data/{name}.py" for name in ("cells", "degenerate", "table", "text")
)
MAF, PUBLISHED = "src/flowlab/data/maf.py", "src/flowlab/data/published.py"
TABLE_TESTS, TABLE_FAULTS = "test_table.py", "test_table_faults.py"

MUTANTS: dict[str, Mutant] = {
    # the Gaussian
    "gaussian: without the log-dets of the supports": Mutant(
        "test_units_run.py -k gaussian",
        ((GAUSSIAN, "coefficients.mT) - log_det", "coefficients.mT)"),),
    ),
    "gaussian: deaf to the context": Mutant(
        "test_units_run.py -k gaussian",
        ((GAUSSIAN, "coefficients = cross @", "coefficients = 0 * cross @"),),
    ),
    "gaussian: the error of its own mean": Mutant(
        "test_units_run.py -k paired",
        ((LIKELIHOOD, "stderr(gaussian - test)", "stderr(gaussian)"),),
    ),
    "resume: with another file": Mutant(
        "test_units_run.py -k another_file",
        ((RUN, "        check_facts(run.resume, data.facts)\n", ""),),
    ),
    # the tables of the MAF paper
    "maf: noise in another order": Mutant(
        "test_maf.py -k power",
        (
            (
                MAF,
                "voltage, power = 0.01 * rng.rand(num, 1), 0.001 * rng.rand(num, 1)",
                "power, voltage = 0.001 * rng.rand(num, 1), 0.01 * rng.rand(num, 1)",
            ),
        ),
    ),
    "maf: standardised by the test rows too": Mutant(
        "test_maf.py -k miniboone",
        (
            (
                MAF,
                "known = np.concatenate([train, val])",
                "known = np.concatenate([train, val, test])",
            ),
        ),
    ),
    "maf: the last of two sensors goes": Mutant(
        "test_maf.py -k gas", ((MAF, "keep.remove(twins[0])", "keep.remove(twins[-1])"),)
    ),
    "maf: by the most frequent value": Mutant(
        "test_maf.py -k hepmass",
        (
            (
                MAF,
                "keep = (train == train.min(0)).sum(0) <= 5",
                "keep = np.array([max(np.unique(c, return_counts=True)[1]) <= 5 for c in train.T])",
            ),
        ),
    ),
    "maf: other rows of that shape are the published ones": Mutant(
        "test_maf.py -k recognised", ((PUBLISHED, " or _is_standard(splits[0])", " or True"),)
    ),
    # pictures
    "pictures: cells of a sweep draw all along": Mutant(
        "test_pictures.py -k end_alone", ((CONFIG, "return cell if ", "return run if "),)
    ),
    "pictures: before the training too, where there is one of each": Mutant(
        "test_pictures.py -k one_picture",
        (
            (
                f"{CALLBACKS}/picture.py",
                "self.every_n_epochs is not None and trainer.ckpt",
                "trainer.ckpt",
            ),
        ),
    ),
    # early stopping
    "patience: an epoch more": Mutant(
        "test_units_run.py -k long_enough",
        ((MODULE, "self.waited < self.patience", "self.waited <= self.patience"),),
    ),
    "patience: a resumed run forgets that it had stopped": Mutant(
        "test_units_run.py -k nothing_left",
        ((MODULE, "self.trainer.should_stop |= not self.is_patient  # the", "pass  # the"),),
    ),
    "patience: one replicate is enough": Mutant(
        "test_units_run.py -k any_flow",
        ((MODULE, "losses.argmin(0).max()", "losses.argmin(0).min()"),),
    ),
    # noise
    "noise: the same in each epoch": Mutant(
        "test_data.py", ((DATA, "self._draw_noise(epoch)\n", "self._draw_noise(0)\n"),)
    ),
    "noise: for held-out points too": Mutant(
        "test_data.py", ((DATA, " or points is not self.train", ""),)
    ),
    "noise: one seed's for all replicates": Mutant(
        "test_data.py",
        (
            (
                DATA,
                "for seed in self.order_seeds]\n            together",
                "for _ in self.order_seeds for seed in self.order_seeds[:1]]\n            together",
            ),
        ),
    ),
    "noise: on the end of a step": Mutant(
        "test_data.py", (("src/flowlab/data/data.py", ".clamp(least, most)", ""),)
    ),
    # units
    "units: the width of a support is forgotten": Mutant(
        "test_units.py", ((UNITS, "(high - low).log() - above", "-above"),)
    ),
    "units: on the edge of a support": Mutant(
        "test_units.py", ((UNITS, ".clamp(*_numbers(self.inner, u))", ""),)
    ),
    "units: the mean in single precision": Mutant(
        "test_units.py", ((UNITS, "self.high.double() + self.low.double()", "self.high"),)
    ),
    "units: the first piece alone": Mutant(
        "test_units.py", ((UNITS, "range(0, len(x), PIECE)", "range(0, 1, PIECE)"),)
    ),
    "units: the last piece weighs as all before": Mutant(
        "test_units.py", ((UNITS, "mean + step * (n / total)", "mean + step / 2"),)
    ),
    # the flows
    "flows: the post's density error": Mutant(
        FLOW_TESTS, ((BASE, "-0.5 * u.square()", "-0.5 * u.shape[-1] * u.square()"),)
    ),
    "flows: no log-det": Mutant(
        FLOW_TESTS, ((FLOW, "self.base.log_prob(u) + log_det", "self.base.log_prob(u)"),)
    ),
    "flows: the sign of s, one way": Mutant(
        FLOW_TESTS, ((UNIVARIATE, "addcmul(t, x, s.exp())", "addcmul(t, x, (-s).exp())"),)
    ),
    "flows: the sign of s, both ways": Mutant(
        FLOW_TESTS,
        (
            (UNIVARIATE, "addcmul(t, x, s.exp())", "addcmul(t, x, (-s).exp())"),
            (UNIVARIATE, "(y - t) * log_slope.exp()", "(y - t) * s.exp()"),
        ),
    ),
    "flows: a mask used again": Mutant(
        FLOW_TESTS, ((COUPLING, "kept = i % 2 if dim > 1 else 1", "kept = 1"),)
    ),
    # contexts
    "contexts: ignored": Mutant(
        CONTEXT_TESTS, ((NETS, "x if context is None else torch", "x if True else torch"),)
    ),
    "contexts: all are the first": Mutant(
        CONTEXT_TESTS,
        ((TAKING, "context.expand(*leading, -1)", "context[:1].expand(*leading, -1)"),),
    ),
    "taken: float64 is rounded before its mean is taken away": Mutant(
        "test_points.py -k lists", ((FLOW, "self.exact_points and not latents", "False"),)
    ),
    "taken: contexts are rounded before theirs is": Mutant(
        "test_points.py -k lists",
        ((FLOW, "self.base.loc, self.exact_context)", "self.base.loc)"),),
    ),
    "taken: lists are rounded to float32": Mutant(
        "test_points.py -k lists", ((TAKING, "(values, dtype=torch.float64)", "(values)"),)
    ),
    "taken: a loaded flow asks for gradients": Mutant(
        "test_points.py -k numpy", ((EXPORT, ".eval().requires_grad_(False)", ".eval()"),)
    ),
    "taken: all at once outside no_grad": Mutant(
        "test_points.py -k chunks",
        ((FLOW, "not torch.is_grad_enabled() or self.training", "True"),),
    ),
    "taken: in chunks, though the context wants a gradient": Mutant(
        "test_points.py -k chunks", ((FLOW, "else [x, context]", "else [x]"),)
    ),
    # training from Python, and what runs are called
    "job: latest is the oldest": Mutant(
        "test_job.py -k latest_run", ((FILES, "newest = max(", "newest = min("),)
    ),
    "job: a name makes another run": Mutant(
        "test_job.py -k changes_nothing", ((CONFIG, '("name", "ckpt_path"', '("ckpt_path"'),)
    ),
    "job: a training changes the caller's configuration": Mutant(
        "test_job.py -k two_runs", ((JOB, "cfg = copy.deepcopy(cfg)", "cfg = cfg"),)
    ),
    "job: a full disk is the configuration's fault": Mutant(
        "test_job.py -k full_disk", ((JOB, ", output_errors(lambda: cfg.hydra.run.dir)", ""),)
    ),
    "job: the process that draws runs the script": Mutant(
        "test_painter.py -k script",
        ((PAINTER, 'sys.modules["__main__"] = ModuleType("__main__")', "pass"),),
    ),
    "contexts: every chunk has the first": Mutant(
        "test_flows_use.py -k chunks", ((FLOW, "context[chunk]", "context[: len(x[chunk])]"),)
    ),
    "contexts: turned the wrong way": Mutant(
        "test_targets.py -k turning", ((TURNING, "turned(x, -context)", "turned(x, context)"),)
    ),
    # layers
    "layers: handed out in another order": Mutant(
        LAYER_TESTS,
        (
            (
                STACK,
                "turns = zip(self.kept, self._nets()",
                "turns = zip(self.kept, self._nets()[::-1]",
            ),
        ),
    ),
    "layers: all keep one half": Mutant(
        LAYER_TESTS, ((STACK, "self.univariate, kept)", "self.univariate, 0)"),)
    ),
    "layers: of a stack turned round in the old order": Mutant(
        LAYER_TESTS, ((TRANSFORM, "reversed(self.transform.layers())", "self.transform.layers()"),)
    ),
    "layers: turned round in the old order": Mutant(
        DIRECTION_TESTS, ((BUILD, "in reversed(transforms)", "in transforms"),)
    ),
    "layers: never turned round": Mutant(
        DIRECTION_TESTS, ((BUILD, 'direction == "sampling"', "False"),)
    ),
    # linear layers
    "linear: a permutation that is not in the state": Mutant(
        "test_linear.py", ((LINEAR, "eye(dim).flip(0))", "eye(dim).flip(0), False)"),)
    ),
    "images: a squeeze in another order": Mutant(
        IMAGE_TESTS, ((IMAGE, "permute(0, 1, 3, 5, 2, 4)", "permute(0, 1, 3, 2, 4, 5)"),)
    ),
    "images: a checkerboard moves all": Mutant(IMAGE_TESTS, ((IMAGE, " * (1 - self.mask)", ""),)),
    "images: a checkerboard sees all": Mutant(IMAGE_TESTS, ((IMAGE, "x * self.mask,", "x,"),)),
    "images: the volume of one place": Mutant(
        IMAGE_TESTS, ((LINEAR, "math.prod(x.shape[1:-1])", "1"),)
    ),
    "images: no learned prior": Mutant(
        IMAGE_TESTS,
        ((GLOW, "if level < num_levels - 1:", "if False:"),),
    ),
    "images: pixels without their logit's slope": Mutant(
        IMAGE_TESTS, ((PIXELS, "self._log_slope - log - log_rest", "self._log_slope - log"),)
    ),
    "images: bits of the whole image": Mutant(
        IMAGES_TESTS, ((BITS, "math.prod(data.shape) * math.log(2)", "math.log(2) / 4"),)
    ),
    "images: the mean of the draws' logarithms": Mutant(
        IMAGES_TESTS,
        (
            (
                BITS,
                "math.log(DRAWS) - torch.stack(log_probs).logsumexp(0)",
                "-sum(log_probs) / DRAWS",
            ),
        ),
    ),
    "images: held-out images are trained on": Mutant(
        IMAGES_TESTS, ((IMAGES, "x[np.sort(order[num_val:])]", "x"),)
    ),
    "images: noise is not drawn anew": Mutant(
        IMAGES_TESTS, ((DATA, 'generator("noise", seed, epoch)', 'generator("noise", seed, 0)'),)
    ),
    "linear: unmixed on the way back": Mutant(
        "test_linear.py",
        ((LINEAR, "(u.flatten(0, -2) @ self.permutation).mT", "u.flatten(0, -2).mT"),),
    ),
    "linear: a log-det of absolute values": Mutant(
        "test_linear.py",
        ((LINEAR, "s.exp().diag_embed(), s.sum()", "s.exp().diag_embed(), s.abs().sum()"),),
    ),
    "linear: ActNorm forgets on a reload that it was fitted": Mutant(
        "test_linear.py",
        ((LINEAR, '"fitted", torch.zeros(())', '"fitted", torch.zeros(()), False'),),
    ),
    "linear: ActNorm is fitted again and again": Mutant(
        "test_linear.py", ((LINEAR, "if not self.fitted", "if True"),)
    ),
    "linear: all layers are fitted to the data themselves": Mutant(
        "test_linear.py", ((FLOW, "            points, _ = transform(points, given)\n\n", "\n"),)
    ),
    # layers given by one vector of parameters
    "amortised: contexts are ignored": Mutant(
        "test_flows_use.py -k 'decides and planar-context'",
        ((AMORTISED, "if context is None:", "if True:"),),
    ),
    "amortised: the stack's layers turned round in the old order": Mutant(
        "test_flows_use.py -k 'layers_are_the_flow and planar'",
        ((AMORTISED, "zip(self.kinds[::-1], each[::-1]", "zip(self.kinds, each"),),
    ),
    "amortised: layers are handed out in another order": Mutant(
        "test_flows_use.py -k 'layers_are_the_flow and planar'",
        ((AMORTISED, "layer.raw = self.raw[i]", "layer.raw = self.raw[-i]"),),
    ),
    "ridge: the log-det's sign on the way back": Mutant(
        "test_flows.py -k 'there_and_back and planar-2'",
        ((RIDGE, "u), -self.log_det(bend", "u), self.log_det(bend"),),
    ),
    "ridge: the slope of tanh by its value": Mutant(
        "test_flows.py -k 'jacobian and planar-2'",
        ((RIDGE, "vectors[3] * (1 - bend.square())", "vectors[3] * (1 - bend)"),),
    ),
    "ridge: no gradient through the solver": Mutant(
        SOLVER_TESTS, ((RIDGE, "if torch.is_grad_enabled()", "if False"),)
    ),
    "ridge: the slope of the solved equation without its one": Mutant(
        SOLVER_TESTS, ((RIDGE, "slope = 1 + d", "slope = d"),)
    ),
    "planar: one end of the bracket": Mutant(
        AMORTISED_TESTS, ((RIDGE, "right - reach, right + reach", "right, right + reach"),)
    ),
    "planar: the paper's |w|": Mutant(
        AMORTISED_TESTS,
        ((PLANAR, "w.square().sum(-1, keepdim=True)", "w.norm(dim=-1, keepdim=True)"),),
    ),
    "planar: no constraint": Mutant(
        AMORTISED_TESTS, ((PLANAR, "v = u + (wv - wu) * w / square", "v, wv = u, wu"),)
    ),
    "planar: the constraint without its margin": Mutant(
        AMORTISED_TESTS, ((PLANAR, "MARGIN = 1e-3", "MARGIN = 0.0"),)
    ),
    "planar: a division by |w|^2 = 0": Mutant(
        AMORTISED_TESTS, ((PLANAR, ".clamp(min=1e-12)", ""),)
    ),
    "radial: no constraint": Mutant(
        AMORTISED_TESTS,
        ((RADIAL, "F.softplus(e + most + torch.log(-torch.expm1(-most))) - most", "e"),),
    ),
    "radial: the constraint without its margin": Mutant(
        AMORTISED_TESTS, ((RADIAL, "MARGIN = 1e-3", "MARGIN = 0.0"),)
    ),
    "radial: the log-det of one dimension": Mutant(
        "test_flows.py -k 'jacobian and radial-3'",
        ((RADIAL, "(self.dim - 1) * across", "across"),),
    ),
    "radial: distances of each coordinate by itself": Mutant(
        "test_flows.py -k 'jacobian and radial-3'",
        ((RADIAL, "torch.linalg.vector_norm(away, dim=-1, keepdim=True)", "away.abs()"),),
    ),
    "radial: the other root": Mutant(
        "test_flows.py -k 'there_and_back and radial-2'", ((RADIAL, "(p + q) / 2", "(p - q) / 2"),)
    ),
    "radial: one form of the root": Mutant(
        AMORTISED_TESTS,
        ((RADIAL, "torch.where(p > 0, (p + q) / 2, ", "torch.where(p == p, (p + q) / 2, "),),
    ),
    "sylvester: diagonals whose product can be -1": Mutant(
        AMORTISED_TESTS, ((SYLVESTER, "s = LARGEST * entries", "s = entries"),)
    ),
    "sylvester: one of the diagonals alone": Mutant(
        "test_flows.py -k 'jacobian and sylvester-2'", ((SYLVESTER, "b, r * s", "b, r"),)
    ),
    "sylvester: reflections by vectors of any length": Mutant(
        AMORTISED_TESTS, ((SYLVESTER, "v = v / v.norm", "v = v / 1 + 0 * v.norm"),)
    ),
    "sylvester: orthonormal columns whose signs jump": Mutant(
        AMORTISED_TESTS,
        ((SYLVESTER, "q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)", "q"),),
    ),
    "sylvester: units are solved for in the wrong order": Mutant(
        "test_flows.py -k 'there_and_back and sylvester-2'",
        ((RIDGE, "reversed(range(d.shape[-1]))", "range(d.shape[-1])"),),
    ),
    "sylvester: no layer turned over": Mutant(
        AMORTISED_TESTS, ((SYLVESTER, "i % 2 == 1", "False"),)
    ),
    "bnaf: no gate": Mutant(
        "test_flows.py -k 'integrates and bnaf-random'",
        (
            (BNAF, "torch.lerp(x, value, gate)", "value"),
            (BNAF, "torch.log1p(gate * (slope.squeeze(-1).mT - 1))", "slope.squeeze(-1).mT.log()"),
        ),
    ),
    "bnaf: a log-det without the gate's other side": Mutant(
        "test_flows.py -k 'jacobian and bnaf-2'",
        (
            (
                BNAF,
                "torch.log1p(gate * (slope.squeeze(-1).mT - 1))",
                "(gate * slope.squeeze(-1).mT).log()",
            ),
        ),
    ),
    "bnaf: blocks above the diagonal": Mutant(
        "test_bnaf.py", ((BNAF, "torch.where(row > column, blocks, 0)", "blocks"),)
    ),
    "bnaf: blocks on the diagonal of any sign": Mutant(
        "test_bnaf.py", ((BNAF, "row == column, blocks.exp()", "row == column, blocks"),)
    ),
    "bnaf: a bracket that a gate of the other side makes": Mutant(
        "test_bnaf.py",
        ((BNAF, "reach = u - gate * c, gate * third.sum()", "reach = u, gate"),),
    ),
    "bnaf: no layer turned over": Mutant(
        "test_bnaf.py", ((BNAF, "flipped=i % 2 == 1", "flipped=False"),)
    ),
    "bnaf: coordinates see nothing of those before on the way back": Mutant(
        "test_flows.py -k 'there_and_back and bnaf-2'", ((BNAF, "if others:", "if False:"),)
    ),
    # solvers, and what is made with them
    "solvers: Inverse is the transform itself": Mutant(
        SOLVER_TESTS,
        ((TRANSFORM, "self.transform.inverse(x, context)", "self.transform(x, context)"),),
    ),
    "solvers: Inverse negates the log-det": Mutant(
        SOLVER_TESTS,
        (
            (
                TRANSFORM,
                "return result\n\n    def layers",
                "return result[0], -result[1]\n\n    def layers",
            ),
        ),
    ),
    "solvers: the log-det of the formula, not negated": Mutant(
        SOLVER_TESTS, ((TRANSFORM, "return x, -self(x", "return x, self(x"),)
    ),
    "solvers: no gradient at all": Mutant(
        SOLVER_TESTS, ((TRANSFORM, "if torch.is_grad_enabled()", "if False"),)
    ),
    "solvers: no gradient under vmap": Mutant(
        "test_flows_use.py -k 'vmap and bnaf-sampling'",
        (
            (
                TRANSFORM,
                "if torch.is_grad_enabled()",
                "if u.requires_grad or self.gate.requires_grad",
            ),
        ),
    ),
    "solvers: the Jacobian transposed": Mutant(
        "test_solve.py -k central",
        ((TRANSFORM, "transpose(0, 1)", "permute(1, 2, 0)"),),
    ),
    "solvers: the Newton step's value added": Mutant(
        SOLVER_TESTS, ((TRANSFORM, "(residual - residual.detach())", "residual"),)
    ),
    "solvers: the wrong side": Mutant(
        SOLVER_TESTS, ((SOLVE, "(f_x > 0) == (f_a", "(f_x > 0) != (f_a"),)
    ),
    "solvers: the wrong interpolation": Mutant(
        SOLVER_TESTS, ((SOLVE, "t = t + (c - a)", "t = t - (c - a)"),)
    ),
    "solvers: interpolation where it is not safe": Mutant(
        SOLVER_TESTS, ((SOLVE, "torch.where(safe, ", "torch.where(t.isfinite(), "),)
    ),
    "solvers: the newest point, not the best": Mutant(
        SOLVER_TESTS, ((SOLVE, "return best", "return a"),)
    ),
    # residual blocks
    "residual: no spectral norm": Mutant(
        "test_residual.py -k contraction", ((RESIDUAL, ".clamp(min=1)", ".clamp(min=1, max=1)"),)
    ),
    "residual: a spectral norm that is kept": Mutant(
        "test_residual.py -k remembered",
        (
            (
                RESIDUAL,
                "norms = outer[0], spectral_norm(second), outer[1]",
                "self.kept = getattr(self, 'kept', None) or [outer[0], spectral_norm(second), "
                "outer[1]]; norms = [norm.detach() for norm in self.kept]",
            ),
        ),
    ),
    "residual: the smallest singular value": Mutant(
        "test_residual.py -k spectral_norm",
        ((RESIDUAL, "eigenvectors[..., -1:]", "eigenvectors[..., :1]"),),
    ),
    "residual: Newton's steps alone": Mutant(
        "test_residual.py -k no_good",
        ((RESIDUAL, "torch.where(failed, u - g, newton)", "newton"),),
    ),
    "residual: the fixed point alone": Mutant(
        "test_residual.py -k to_rounding",
        ((RESIDUAL, "torch.where(failed, u - g, newton)", "u - g"),),
    ),
    "residual: terms not weighted by their chance": Mutant(
        "test_residual.py -k unbiased", ((RESIDUAL, "(k * contraction ** max(k - 2, 0))", "k"),)
    ),
    "residual: all terms of one sign": Mutant(
        "test_residual.py -k unbiased", ((RESIDUAL, "(-1) ** (k + 1) /", "1 /"),)
    ),
    "residual: the log-det in the plane without its cross term": Mutant(
        "test_flows.py -k 'jacobian and residual-2'", ((RESIDUAL, "a * d - b * c", "a * d"),)
    ),
    "residual: slopes of one layer left out": Mutant(
        "test_flows.py -k 'jacobian and residual-2'",
        (
            (
                TANGENTS,
                "rows = _mapped(rows, weight) * slope.unsqueeze(1)",
                "rows = _mapped(rows, weight)",
            ),
        ),
    ),
    "residual: the context ignored": Mutant(
        "test_flows_use.py -k 'residual-context and decides'",
        ((TANGENTS, "first if context is None else", "first if True else"),),
    ),
    # continuous flows
    "ffjord: steps of other weights": Mutant(
        "test_ffjord.py -k sixteenth",
        ((FFJORD, "k1 + 2 * (k2 + k3) + k4, alpha=h / 6", "k1 + k2 + k3 + k4, alpha=h / 4"),),
    ),
    "ffjord: the trace by other weights": Mutant(
        "test_ffjord.py -k sixteenth",
        ((FFJORD, "2 * torch.stack(middles).sum(0)", "2.1 * torch.stack(middles).sum(0)"),),
    ),
    "ffjord: the middle at the start": Mutant(
        "test_ffjord.py -k sixteenth", ((FFJORD, "fields[1::2]", "fields[:-1:2]"),)
    ),
    "ffjord: the last stage half-way": Mutant(
        "test_ffjord.py -k sixteenth", ((FFJORD, "k3, alpha=h)", "k3, alpha=h / 2)"),)
    ),
    "ffjord: the trace without the gates of its weights": Mutant(
        "test_ffjord.py -k field",
        ((FFJORD, "first, second, last = weights", "first, second, last = self.net.weights"),),
    ),
    "ffjord: the trace of a network that is linear": Mutant(
        "test_ffjord.py -k autograd", ((FFJORD, "(trace * (1 - second.square()))", "trace"),)
    ),
    "ffjord: back in time without the minus": Mutant(
        "test_ffjord.py -k scipy", ((FFJORD, "-2 / (len(fields) - 1)", "2 / (len(fields) - 1)"),)
    ),
    "ffjord: back along the field in its old order": Mutant(
        "test_ffjord.py -k scipy", ((FFJORD, "_fields(context)[::-1]", "_fields(context)"),)
    ),
    "networks: no second ReLU": Mutant(
        "test_coupling.py -k plain_networks",
        ((NETS, "F.linear(hidden, w2, b2).relu_()", "F.linear(hidden, w2, b2)"),),
    ),
    "networks: the hidden layers' first weights by the square": Mutant(
        "test_coupling.py -k start_as",
        ((NETS, "1 / math.sqrt(max(weight.shape[1], 1))", "1 / max(weight.shape[1], 1)"),),
    ),
    "networks: the hidden layers' first weights by the root": Mutant(
        "test_coupling.py -k start_as",
        ((NETS, "1 / math.sqrt(max(weight.shape[1], 1))", "max(weight.shape[1], 1) ** -0.25"),),
    ),
    # splines
    "spline: a bin's slopes forgotten": Mutant(
        "test_univariate.py -k 'slopes_sum and Rational'",
        ((UNIVARIATE, "2 * (slope / bottom).log() + top.log()", "(slope / bottom).log()"),),
    ),
    "spline: one end's slope for both": Mutant(
        "test_univariate.py -k 'both_sides'",
        ((UNIVARIATE, "d0, d1 = slopes.unbind(-1)", "d1 = d0 = slopes[..., 0]"),),
    ),
    "spline: a softplus that is not moved": Mutant(
        "test_univariate.py -k 'zeros_is'",
        ((UNIVARIATE, "slopes + math.log(math.expm1(1 - FLATTEST))", "slopes"),),
    ),
    "spline: the root that cancels": Mutant(
        "test_univariate.py -k 'wild'", ((UNIVARIATE, "falls = b < 0", "falls = b < -math.inf"),)
    ),
    "spline: outer knots where rounding leaves them": Mutant(
        "test_univariate.py -k 'outer_knots'",
        (
            (
                UNIVARIATE,
                "F.pad(parts.new_ones(k, k - 1).triu(), (1, 1))",
                "F.pad(parts.new_ones(k, k).triu(), (1, 0))",
            ),
        ),
    ),
    "spline: bins that can vanish": Mutant(
        "test_univariate.py -k 'outer_knots'",
        ((UNIVARIATE, "= 1e-2, 1e-3", "= 0.0, 1e-3"),),
    ),
    "spline: bins found on the wrong axis": Mutant(
        "test_univariate.py -k 'wild'",
        ((UNIVARIATE, "self._bin(y_in, parameters, 1)", "self._bin(y_in, parameters, 0)"),),
    ),
    # masked autoregressive layers
    "maf: a coordinate that sees itself": Mutant(
        "test_autoregressive.py -k lets",
        ((MADE, "[i - 1 for i in order] * num_out", "[i for i in order] * num_out"),),
    ),
    "maf: outputs of the other order": Mutant(
        "test_autoregressive.py -k lets", ((MADE, "[i - 1 for i in order]", "list(range(dim))"),)
    ),
    "maf: hidden units that see nothing of the context": Mutant(
        "test_autoregressive.py -k lets", ((MADE, "[0] * context", "[dim] * context"),)
    ),
    "maf: in turn, a unit too few": Mutant(
        "test_autoregressive.py -k in_turn", ((MADE, "weight_in.flip(1)", "weight_in"),)
    ),
    "maf: one order for all layers": Mutant(
        "test_autoregressive.py -k either_end",
        ((AUTOREGRESSIVE, 'reverse=mixing == "flip" and i % 2 == 1', "reverse=False"),),
    ),
    "maf: a stack without masks": Mutant(
        "test_autoregressive.py -k either_end",
        ((MADE, "[w * mask for", "[w + 0 * mask for"),),
    ),
    "maf: layers undone in the order in which they were done": Mutant(
        "test_flows.py -k 'there_and_back and maf-3'",
        ((STACK, "for net in reversed(self._nets())", "for net in self._nets()"),),
    ),
    "iaf: the family that it turns round": Mutant(
        "test_autoregressive.py -k turned_round",
        ((AUTOREGRESSIVE, "[Inverse(layer) for layer in reversed(layers)]", "layers"),),
    ),
    "iaf: turned round in the old order": Mutant(
        "test_autoregressive.py -k turned_round",
        ((AUTOREGRESSIVE, "for layer in reversed(layers)]", "for layer in layers]"),),
    ),
    "spline_ar: the slope of the other direction": Mutant(
        "test_flows.py -k 'there_and_back and spline_ar-2'",
        (
            (
                UNIVARIATE,
                "torch.where(inside, -log_slope, 0.0)",
                "torch.where(inside, log_slope, 0.0)",
            ),
        ),
    ),
    "spline_ar: affine layers": Mutant(
        "test_autoregressive.py -k bends",
        (
            (
                AUTOREGRESSIVE,
                "spline = RationalQuadratic(num_bins, bound)",
                "spline = Affine(bound)",
            ),
        ),
    ),
    # neural autoregressive layers
    "naf: sigmoids that start alike": Mutant(
        "test_univariate.py -k of_their_own",
        ((UNIVARIATE, "= 4.6, 2.0", "= 4.6, 0.0"),),
    ),
    "naf: sigmoids that are clipped": Mutant(
        "test_univariate.py -k saturate",
        (
            (
                UNIVARIATE,
                "log_on = F.logsigmoid(z)",
                "log_on = (z.sigmoid() * (1 - 2e-6) + 1e-6).log()",
            ),
        ),
    ),
    "naf: steepness without bounds": Mutant(
        "test_univariate.py -k 'wherever'",
        ((UNIVARIATE, "STEEPEST * (a / STEEPEST).tanh()", "a"),),
    ),
    "naf: the slope as a difference of sums": Mutant(
        "test_univariate.py -k saturate",
        (
            (
                UNIVARIATE,
                "(parts + log_a).logsumexp(1)",
                "(on + log_on - z + log_a).logsumexp(1) - (sum_on + sum_off).squeeze(1)",
            ),
        ),
    ),
    "naf: half of the bracket": Mutant(
        "test_univariate.py -k wherever",
        ((UNIVARIATE, "single.amin(1), single.amax(1)", "single.mean(1), single.amax(1)"),),
    ),
    "naf: a solver without a gradient": Mutant(
        "test_univariate.py -k 'central and Deep'",
        ((UNIVARIATE, "if torch.is_grad_enabled():", "if False:"),),
    ),
    # the loop
    "loop: a short batch weighted as a full one": Mutant(
        LOOP_TESTS,
        ((MODULE, "world_size / index.shape[-1])", "world_size / self.data.batch_size)"),),
    ),
    "loop: the mean of the means of batches": Mutant(
        LOOP_TESTS,
        (
            (
                MODULE,
                "self.losses.append((loss.detach(), index.shape[-1]))",
                "self.losses.append((loss.detach() / index.shape[-1], 1))",
            ),
        ),
    ),
    "loop: the loss of the last batch alone": Mutant(
        LOOP_TESTS, ((MODULE, "self._mean(self.losses)", "self._mean(self.losses[-1:])"),)
    ),
    "loop: the schedule an epoch late": Mutant(
        LOOP_TESTS,
        (
            (
                MODULE,
                "progress = self.current_epoch /",
                "progress = max(0, self.current_epoch - 1) /",
            ),
        ),
    ),
    "loop: the schedule an epoch early": Mutant(
        LOOP_TESTS,
        ((MODULE, "progress = self.current_epoch /", "progress = (self.current_epoch + 1) /"),),
    ),
    "loop: ties go to the last epoch": Mutant(
        LOOP_TESTS,
        ((CHECKPOINT, "loss < self.best_loss", "loss <= self.best_loss"),),
    ),
    "loop: clipped by another norm": Mutant(
        LOOP_TESTS, ((REPLICATES, "shares = (most /", "shares = (2 * most /"),)
    ),
    # the test's figures
    "figures: the standard error of a point": Mutant(
        "test_experiment.py -k metrics",
        ((LIKELIHOOD, '"test/nll_stderr": stderr(test)', '"test/nll_stderr": test.std()'),),
    ),
    "figures: the entropy of the model": Mutant(
        "test_divergence.py",
        ((DIVERGENCE, "(mass * (p.log_prob", "(log_q(x).exp() / cells**p.dim * (p.log_prob"),),
    ),
    "figures: the reverse divergence": Mutant(
        "test_divergence.py",
        ((DIVERGENCE, "(p.log_prob(x) - log_q(x))", "(log_q(x) - p.log_prob(x))"),),
    ),
    "figures: one grid": Mutant(
        "test_divergence.py", ((DIVERGENCE, "error < TOLERANCE", "error < math.inf"),)
    ),
    "figures: the grid's lines instead of its middles": Mutant(
        "test_divergence.py", ((DIVERGENCE, "(axis + 0.5)", "axis"),)
    ),
    "figures: the standard deviation for the standard error": Mutant(
        "test_divergence.py", ((DIVERGENCE, " / (n - 1)).sqrt()", ").sqrt()"),)
    ),
    # data
    "data: replicates share the points of the first": Mutant(
        "test_replicates.py -k 'run_of_its_seed and words0'",
        ((RUN, "seed=seed, _partial_=True)", "seed=own[0], _partial_=True)"),),
    ),
    "data: replicates share the order of the first": Mutant(
        "test_data.py",
        (
            (
                DATA,
                'generator("order", seed, epoch)',
                'generator("order", self.order_seeds[0], epoch)',
            ),
        ),
    ),
    "data: the points do not follow the seed": Mutant(
        "test_experiment.py -k follow_the_seed",
        ((RUN, "seeds if cfg.data.seed is None", "[0] if cfg.data.seed is None"),),
    ),
    "data: fresh points are those of the test": Mutant(
        "test_objectives.py", ((OBJECTIVE, '"data/fresh"', '"data/test"'),)
    ),
    "data: another owner of the order": Mutant(
        "test_data.py -k order", ((DATA, 'generator("order", seed', 'generator("orders", seed'),)
    ),
    "data: another key of the order": Mutant(
        "test_data.py -k order", ((DATA, '"order", seed, epoch', '"order", epoch, seed'),)
    ),
    "data: samples with a variance of 0.202": Mutant(
        "test_targets.py", ((TARGETS, "math.sqrt(self.variance) * noise", "0.202**0.5 * noise"),)
    ),
    "targets: the energies keep all that is proposed": Mutant(
        "test_targets.py -k spread",
        ((ENERGIES, "(-self.excess(x)).exp()", "(-0 * self.excess(x)).exp()"),),
    ),
    "targets: bands are equally likely, however wide": Mutant(
        "test_targets.py -k spread",
        ((ENERGIES, "(deviations / deviations.sum())", "torch.full_like(deviations, 0.5)"),),
    ),
    "targets: a sheared density without its log-det": Mutant(
        "test_targets.py -k integrates",
        ((SHEARED, "* log_scale.squeeze(-1)\n", "* 0 * log_scale.squeeze(-1)\n"),),
    ),
    "targets: an even grid for the funnel": Mutant(
        "test_targets.py -k sees_all", ((DIVERGENCE, "own(cells) if own", "own(cells) if not p"),)
    ),
    "extensions: the working directory first": Mutant(
        "test_extensions.py -k comes_last",
        ((COMMAND_LINE, "sys.path.append(", "sys.path.insert(0, "),),
    ),
    "extensions: a file's module is imported": Mutant(
        "test_extensions.py -k imports_nothing",
        (
            (
                EXPORT,
                "    recipe = FLOWS.get(name) if isinstance",
                "    __import__(str(module))\n    recipe = FLOWS.get(name) if isinstance",
            ),
        ),
    ),
    "targets: a checkerboard of the other colour": Mutant(
        "test_targets.py -k checkerboard", ((CHECKERBOARD, "% 2 == 0)", "% 2 == 1)"),)
    ),
    "targets: points of the checkerboard rounded over an edge": Mutant(
        "test_targets.py -k over_an_edge", ((CHECKERBOARD, ".clamp(2**-20, 1 - 2**-20)", ""),)
    ),
    "targets: eight modes not shared among eight": Mutant(
        "test_targets.py -k eight", ((EIGHT, "8 * 2 * math.pi * self", "2 * math.pi * self"),)
    ),
    "targets: seven modes drawn of eight": Mutant(
        "test_targets.py -k eight", ((EIGHT, "torch.randint(8,", "torch.randint(7,"),)
    ),
    "data: its epochs before the trainer's": Mutant(
        "test_data.py -k gives_way",
        (
            ("conf/train.yaml", "  - data: bimodal  #", "  #"),
            ("conf/train.yaml", "  - objective: l", "  - data: bimodal\n  - objective: l"),
        ),
    ),
    # replicates and their diagnosis
    "diagnosis: the first replicate is always to blame": Mutant(
        "test_replicates.py -k wrong_is_named",
        ((DIAGNOSIS, "index = int(faulty.int().argmax())", "index = 0"),),
    ),
    "diagnosis: weights and gradients of replicates are not looked at": Mutant(
        "test_replicates.py -k wrong_is_named",
        ((MODULE, " & self.replicates.finite()", ""),),
    ),
    # schedules
    "schedules: a linear warm-up": Mutant(
        "test_schedules.py",
        (
            (
                SCHEDULES,
                "1 - (1 - start) * cosine(progress / warmup)",
                "start + (1 - start) * progress / warmup",
            ),
        ),
    ),
    # checkpoints, resuming, files
    "files: people's own *.part deleted": Mutant(
        "test_files.py -k cleared",
        ((DIRECTORY, "if PART.fullmatch(part.relative_to(run_dir).as_posix()):", "if True:"),),
    ),
    "files: *.part deleted below other folders": Mutant(
        "test_files.py -k cleared",
        (
            (DIRECTORY, "folder.glob(", "folder.rglob("),
            (
                DIRECTORY,
                "PART.fullmatch(part.relative_to(run_dir).as_posix())",
                "PART.search(f'{part}')",
            ),
        ),
    ),
    "files: a folder of people's own becomes a run": Mutant(
        "test_files.py -k 'refused or elsewhere'",
        ((DIRECTORY, "elif others := strangers(run_dir, BEGUN):", "elif others := []:"),),
    ),
    "files: no fsync": Mutant(
        "test_files.py -k on_the_disk", ((FILES, "os.fsync(file.fileno())", "pass"),)
    ),
    "files: a compressed archive accepted": Mutant(
        "test_resume.py -k archives",
        ((CHECKPOINTS, "e.compress_type != zipfile.ZIP_STORED or e.", "e."),),
    ),
    "files: an entry with attributes accepted": Mutant(
        "test_resume.py -k archives",
        ((CHECKPOINTS, "zipfile.ZIP_STORED or e.external_attr", "zipfile.ZIP_STORED"),),
    ),
    "files: two entries of one name accepted": Mutant(
        "test_resume.py -k archives",
        (
            (
                CHECKPOINTS,
                "if len({entry.filename for entry in entries}) < len(entries):",
                "if False:",
            ),
        ),
    ),
    "files: the SHA-256 not compared": Mutant(
        "test_resume.py -k table_of_contents",
        ((CHECKPOINTS, ".hexdigest().encode() != content[-64:]", ".hexdigest().encode() == b''"),),
    ),
    "files: best weights that are not finite accepted": Mutant(
        "test_resume.py -k contents_that", ((CHECKPOINTS, 'v.get("best_weights")', "None"),)
    ),
    "files: rates that are not finite accepted": Mutant(
        "test_resume.py -k contents_that",
        ((CHECKPOINTS, "isinstance(leaf, float) and", "False and"),),
    ),
    "files: a finished run, its flow not looked at": Mutant(
        "test_resume.py -k lost_a_result", ((RESUME, "        load(run_dir)\n", ""),)
    ),
    "files: a finished run with other settings": Mutant(
        "test_resume.py -k other_settings",
        ((RESUME, "if max(finished, done) >= end and others:", "if False:"),),
    ),
    "files: a run trained to its end with other settings": Mutant(
        "test_resume.py -k other_settings",
        ((RESUME, "if max(finished, done) >=", "if finished >="),),
    ),
    "files: a stranger's folder started anew in": Mutant(
        "test_resume.py -k not_a_run", ((CHECKPOINTS, " or strangers(folder, RUN_FILES):", ":"),)
    ),
    "files: a folder of event files started anew in": Mutant(
        "test_resume.py -k not_a_run",
        (
            (
                CHECKPOINTS,
                'in (".hydra", "metrics.json"))',
                'in ("events.out.tfevents.1", ".hydra"))',
            ),
        ),
    ),
    "files: no end for a run without an epoch left": Mutant(
        "test_resume.py -k between_its", ((TRAINER, "if ended or", "if"),)
    ),
    "files: the pictures of the end twice": Mutant(
        "test_resume.py -k between_its",
        ((LOGGER, "            path.unlink()", "            pass"),),
    ),
    "files: no last.ckpt at a signal": Mutant(
        "test_resume.py -k within_an_epoch",
        (
            (
                "src/flowlab/callbacks/interrupt.py",
                "trainer.save_checkpoint(trainer.checkpoint_callback.last)",
                "pass",
            ),
        ),
    ),
    "files: no checkpoint taken over where no epoch is left": Mutant(
        "test_resume.py -k between_its",
        (("src/flowlab/callbacks/checkpoint.py", "if not self.last.exists():", "if False:"),),
    ),
    "files: the random state not taken over": Mutant(
        "test_resume.py -k global_generator",
        ((LOOP, 'self.rng_state, self.step = state["rng_state"],', "self.step ="),),
    ),
    "files: the random state not set": Mutant(
        "test_resume.py -k global_generator",
        ((LOOP, "torch.set_rng_state(self.rng_state)", "pass"),),
    ),
    "files: seconds start anew": Mutant(
        "test_resume.py -k seconds", ((LOOP, "self.seconds, self.norms =", "_, self.norms ="),)
    ),
    "files: the optimizer's options not taken over": Mutant(
        "test_resume.py -k 'taken_over and weight_decay'",
        ((LOOP, "group.update(optimizer.defaults)", "pass"),),
    ),
    "files: another rate only from the next epoch on": Mutant(
        "test_resume.py -k 'taken_over and True'",
        (
            (LOOP, "group.update(optimizer.defaults)", "pass"),
            (LOOP, "self.on_train_epoch_start()  #", "pass  #"),
        ),
    ),
    "files: options of any optimizer go on": Mutant(
        "test_resume.py -k hangs_on", ((RESUME, '"optimizer.")', '"optimizer._target_")'),)
    ),
    "files: other options of foreign callbacks go on": Mutant(
        "test_resume.py -k foreign_callback",
        ((RESUME, "in there and not ours", "in there and False"),),
    ),
    # the exported flow
    "export: the digest without the configuration": Mutant(
        "test_export.py -k configuration_too", ((EXPORT, "_hash(config)\n", "_hash(None)\n"),)
    ),
    "export: the digest without the columns": Mutant(
        "test_export.py -k bit",
        ((EXPORT, '_hash(content["columns"]).hexdigest()', 'content["columns_sha256"]'),),
    ),
    "export: the digest without names": Mutant(
        "test_export.py -k tells", ((EXPORT, 'f"{name} {tensor.dtype} {', 'f"{tensor.dtype} {'),)
    ),
    "export: the digest without types": Mutant(
        "test_export.py -k tells", ((EXPORT, "{name} {tensor.dtype} {", "{name} {"),)
    ),
    "export: the digest without shapes": Mutant(
        "test_export.py -k tells", ((EXPORT, " {tuple(tensor.shape)}", ""),)
    ),
    # the report and its statistics
    "report: = at p > 0.01": Mutant(
        "test_report.py -k pairs", ((COMPARING, "LEVEL = 0.05", "LEVEL = 0.01"),)
    ),
    "report: cells compared with the worst": Mutant(
        "test_report.py -k worst",
        ((TABLES, "compare(ranking.cells[0], cell,", "compare(ranking.cells[-1], cell,"),),
    ),
    "report: never in pairs": Mutant(
        "test_report.py -k pairs",
        (
            (
                COMPARING,
                "if first.keys() == second.keys():\n        pairs",
                "if False:\n        pairs",
            ),
        ),
    ),
    "report: pairs of any seeds": Mutant(
        "test_report.py -k welch",
        (
            (COMPARING, "first.keys() == second.keys():\n        pairs", "True:\n        pairs"),
            (
                COMPARING,
                "for seed in first]\n        return",
                "for seed in {*first} & {*second}]\n        return",
            ),
        ),
    ),
    "report: ranked by the test points": Mutant(
        "test_report.py -k ranked_by", ((RESULTS, "c.mean(c.runs[0].rank)", 'c.mean("test/kl")'),)
    ),
    "report: data sets in one ranking": Mutant(
        "test_report.py -k ranked_against",
        ((RESULTS, "tuple(sorted(distribution(run).items()))", "()"),),
    ),
    "report: a seed that counts twice": Mutant(
        "test_report.py -k means",
        ((RESULTS, "{run.seed + i: v for run", "{(run.folder, i): v for run"),),
    ),
    "report: the spread as the standard error": Mutant(
        "test_report.py -k means", ((RESULTS, " / np.sqrt(len(values)))", ")"),)
    ),
    "report: parts without their names": Mutant(
        "test_report.py -k readable",
        (
            (
                SETTINGS,
                '(last == "_target_" or not last.startswith("_"))',
                'not last.startswith("_")',
            ),
        ),
    ),
    "report: keys that follow others as axes": Mutant(
        "test_report.py -k whole", ((RESULTS, "not follows(run.settings[key])", "True"),)
    ),
    "report: a flow decides though it has two values": Mutant(
        "test_report.py -k two_values", ((RESULTS, "len(made) == len(pairs)", "True"),)
    ),
    "report: what a flow brings as axes": Mutant(
        "test_report.py -k decides", ((RESULTS, "if key.startswith(CHOSEN):", "if False:"),)
    ),
    "report: whatever comes with a flow decided by it": Mutant(
        "test_report.py -k decides", ((RESULTS, "if key.startswith(CHOSEN):", "if True:"),)
    ),
    "report: a cell that failed is the first": Mutant(
        "test_report.py -k one_table",
        ((COMPARING, "len(cells)), np.inf)", "len(cells)), -np.inf)"),),
    ),
    "report: the critical difference of one data set": Mutant(
        "test_report_points.py -k demsar", ((COMPARING, "(6 * n)", "6"),)
    ),
    "report: test points forgotten beside the seeds": Mutant(
        "test_report_points.py -k both_random",
        ((COMPARING, "    parts.append(_part(points))\n", ""),),
    ),
    "report: points of other digests in pairs": Mutant(
        "test_report_points.py -k 'other_points or both_random'",
        ((COMPARING, "return len(digests) == 1 and", "return"),),
    ),
    "report: a run's densities believed whatever its NLL": Mutant(
        "test_report_points.py -k believed", ((LIKELIHOODS, "NEAR = 1e-3", "NEAR = 10"),)
    ),
    "report: densities of the first replicate": Mutant(
        "test_replicates.py -k each_replicate",
        ((RUN, "data.of(best), log_probs[best], run", "data.of(best), log_probs[0], run"),),
    ),
    "report: A and B exchanged": Mutant(
        "test_report_points.py -k compared_in_pairs",
        ((PAIR, "_difference(a - b,", "_difference(b - a,"),),
    ),
    "report: published figures with their sign": Mutant(
        "test_report_points.py -k one_table",
        (("src/flowlab/runs/published.py", "-values[index] for", "values[index] for"),),
    ),
    "report: LaTeX without its escapes": Mutant(
        "test_report_points.py -k latex", ((FORMS, "SIGNS.get(sign, sign)", "sign"),)
    ),
    "report: a pipe is waited for": Mutant(
        "test_report_strangers.py -k 'device or 32'",
        ((FILES, "if not stat.S_ISREG(found.st_mode):", "if False:"),),
    ),
    "report: a configuration of any depth": Mutant(
        "test_report_strangers.py -k depth", ((READING, "or depth > MOST_DEPTH:", "or False:"),)
    ),
    "report: pictures through a link": Mutant(
        "test_report_strangers.py -k elsewhere",
        ((REPORT, '"plots").is_symlink():', '"x").is_symlink():'),),
    ),
    "report: control characters on the terminal": Mutant(
        "test_report_strangers.py -k are_plain",
        ((READING, "one_line(metrics[key], 1000)", "metrics[key]"),),
    ),
    "report: marks of another cell": Mutant(
        "test_report.py -k one_table",
        ((TABLES, "marked[ranking.cells.index(cell)]", "marked[len(rows)]"),),
    ),
    "report: an overview with its axes exchanged": Mutant(
        "test_report.py -k overview",
        ((SWEEP_AXES, "reshape(side, side).T", "reshape(side, side)"),),
    ),
    "report: early stopping is as good as none": Mutant(
        "test_report.py -k readable", ((SETTINGS, 'startswith("flowlab.callbacks.")', "strip()"),)
    ),
    "report: a run counts again where it went on": Mutant(
        "test_report.py -k 'counts_once'", ((READING, "if run.folder not in later", "if True"),)
    ),
    "report: only the last ancestor": Mutant(
        "test_report.py -k 'counts_once'", ((READING, "before = _before(before)", "before = None"),)
    ),
    "report: no ancestor named": Mutant(
        "test_report.py -k ancestor",
        (
            (
                "src/flowlab/runs/life.py",
                "!= run_dir.resolve() and holds_run",
                "!= before and holds_run",
            ),
        ),
    ),
    "report: an error told as a warning": Mutant(
        "test_report.py -k any_error",
        ((SWEEP, "except Exception as error:  # Hydra", "except OSError as error:  # Hydra"),),
    ),
    # sweeps
    "sweeps: names of cells cut": Mutant(
        "test_sweep.py -k names_of_cells", ((SWEEP, "MAX_NAME = 100", "MAX_NAME = 30"),)
    ),
    # pictures
    "pictures: the density transposed": Mutant(
        "test_pictures.py -k density", ((f"{CALLBACKS}/picture.py", "x.transpose(0, 1)", "x"),)
    ),
    "pictures: samples through the wrong direction": Mutant(
        "test_pictures.py -k samples",
        ((f"{CALLBACKS}/picture.py", "flow.inverse(u", "flow(u"),),
    ),
    "pictures: the grid through the wrong direction": Mutant(
        "test_pictures.py -k grid",
        ((f"{CALLBACKS}/grid.py", "layers[number - 1].inverse(x)", "layers[number - 1](x)"),),
    ),
    "pictures: the density does not go with the grid": Mutant(
        "test_pictures.py -k grid", ((f"{CALLBACKS}/grid.py", "log_p - log_det", "log_p"),)
    ),
    "pictures: a grid that goes to no number ends the run": Mutant(
        "test_pictures.py -k to_no_number",
        (
            (
                "src/flowlab/plots/plane.py",
                "np.nan_to_num(x, nan=FAR, posinf=FAR, neginf=-FAR)",
                "x",
            ),
        ),
    ),
    "pictures: a resumed run's film begins anew": Mutant(
        "test_pictures.py -k whole_film",
        ((f"{CALLBACKS}/film.py", "dict(self.frames)}", "{}}"),),
    ),
    "pictures: latents in the colours of nobody's modes": Mutant(
        "test_pictures.py -k colours",
        ((f"{CALLBACKS}/latents.py", "cdist(held_out.x, modes)", "cdist(u, modes)"),),
    ),
    "pictures: the loss above the entropy of other points": Mutant(
        "test_pictures.py -k loss_curve",
        ((f"{CALLBACKS}/loss.py", "val - lowest[:, 1]", "val - lowest[:, 0]"),),
    ),
    "scalars: the norm after clipping": Mutant(
        "test_training.py -k plain_loop",
        ((MODULE, "self.norms.append(norms)", "self.norms.append(norms.clamp(max=1e-3))"),),
    ),
    "scalars: results as single dots": Mutant(
        "test_experiment.py -k tensorboard", ((LOGGER, "in (0, epoch)", "in (epoch,)"),)
    ),
    "pictures: latents through the wrong direction": Mutant(
        "test_pictures.py -k latents",
        ((f"{CALLBACKS}/latents.py", "flow(*held_out", "flow.inverse(*held_out"),),
    ),
    "pictures: the loss curve from epoch 1": Mutant(
        "test_pictures.py -k loss_curve",
        ((MODULE, "self.train()._note(0, *losses)", "self.train()"),),
    ),
    "pictures: all suit everything": Mutant(
        "test_pictures.py -k 'suit and 3'",
        ((f"{CALLBACKS}/picture.py", "self.suits(data)", "True"),),
    ),
    "pictures: the two coordinates of a pair exchanged": Mutant(
        "test_pictures_tables.py -k each_pair",
        ((TABLE, "mixed[:, j], mixed[:, i]", "mixed[:, i], mixed[:, j]"),),
    ),
    "pictures: samples and held-out rows exchanged": Mutant(
        "test_pictures_tables.py -k each_pair",
        ((TABLE, "{ORANGE: held_out, BLUE: drawn} if", "{ORANGE: drawn, BLUE: held_out} if"),),
    ),
    "pictures: quantiles of the wrong axis": Mutant(
        "test_pictures_tables.py -k quantiles_stand", ((TABLE, "ax.plot(*q,", "ax.plot(*q[::-1],"),)
    ),
    "pictures: samples without the rows' contexts": Mutant(
        "test_pictures_tables.py -k with_its_context",
        ((f"{CALLBACKS}/picture.py", "points.context.to(u.device)", "0 * points.context"),),
    ),
    "pictures: the first rows of a file alone": Mutant(
        "test_pictures_tables.py -k with_its_context",
        ((f"{CALLBACKS}/picture.py", "* total // num", "* 1"),),
    ),
    "pictures: limits by the outermost values": Mutant(
        "test_pictures_tables.py -k limits",
        (
            (
                "src/flowlab/plots/column.py",
                "np.quantile(values, (0.02, 0.98))\n    if",
                "low, high\n    if",
            ),
        ),
    ),
    "pictures: a table of two columns taken for the plane": Mutant(
        "test_pictures_tables.py -k no_plane",
        ((f"{CALLBACKS}/picture.py", " and data.support is None", ""),),
    ),
    "pictures: no line where there is no terminal": Mutant(
        "test_progress.py -k every_few_seconds",
        ((f"{CALLBACKS}/progress.py", "if self.bar.disable and", "if not self.bar.disable and"),),
    ),
    "pictures: bars of two standard errors": Mutant(
        "test_report.py -k one_standard",
        ((SWEEP_PLOTS, "ax.errorbar(x, means, errors,", "ax.errorbar(x, means, 2 * errors,"),),
    ),
    "pictures: bars of one seed": Mutant(
        "test_report.py -k claims",
        ((SWEEP_PLOTS, "if np.isnan(errors).all():", "if False:"),),
    ),
    "pictures: the front of maxima": Mutant(
        "test_report.py -k front", ((SWEEP_PLOTS, "np.minimum.acc", "np.maximum.acc"),)
    ),
    "pictures: the lowest KL framed": Mutant(
        "test_report.py -k frames",
        (
            (
                SWEEP_PLOTS,
                "best = cells[0].values",
                "best = min(cells, key=lambda cell: cell.mean(ranking.measure)).values",
            ),
        ),
    ),
    "pictures: the first seed's title": Mutant(
        "test_report.py -k which_flow", ((SWEEP_PLOTS, "{run.seed + index}", "{run.seed}"),)
    ),
    "pictures: a dollar begins a formula": Mutant(
        "test_report.py -k formula", (("src/flowlab/plots/style.py", '.replace("$", r"\\$")', ""),)
    ),
    # the logger
    "logger: history from after the resume": Mutant(
        "test_resume.py -k history_has",
        ((LOGGER, "else self.next_epoch\n", "else self.next_epoch + 1\n"),),
    ),
    "logger: the result of before taken along": Mutant(
        "test_resume.py -k history_has", ((LOGGER, "not path.name.endswith(RESULT)", "True"),)
    ),
    "objectives: contexts left at home": Mutant(
        "test_experiment.py -k 'columns and True-2'",
        ((LIKELIHOOD, "-flow.log_prob(x, context)", "-flow.log_prob(x, context.flip(0))"),),
    ),
    # the configuration and the command line
    "configuration: no rule for the seeds of the data": Mutant(
        EXPLAINED, ((RULES, '"data.seed":', '"data.sed":'),)
    ),
    "configuration: any seed of the data from -1 on": Mutant(
        EXPLAINED,
        ((RULES, '"data.seed": _optional(_whole(0))', '"data.seed": _optional(_whole(-1))'),),
    ),
    "configuration: no rule for the resolution": Mutant(
        EXPLAINED, ((RULES, '"callbacks.*.resolution":', '"callbacks.*.resolutions":'),)
    ),
    "configuration: a resolution of 1": Mutant(
        EXPLAINED,
        ((RULES, "_whole(2, 1000)", "_whole(1, 1000)"),),
    ),
    "configuration: any strategy": Mutant(
        EXPLAINED, ((RULES, '_one_of("auto", "ddp")', '_one_of("auto", "ddp", "fsdp")'),)
    ),
    "configuration: no strategy but one": Mutant(
        EXPLAINED, ((RULES, '_one_of("auto", "ddp")', '_one_of("auto")'),)
    ),
    "sizes: one point, for which any shape will do": Mutant(
        "test_sizes.py -k ones_own",
        ((SIZES, "(loss(2), torch.ones(2))", "(loss(1), torch.ones(1))"),),
    ),
    "sizes: weights without what training makes of them": Mutant(
        SIZES_TESTS, ((SIZES, "COPIES * cfg.replicates * weights", "cfg.replicates * weights"),)
    ),
    "sizes: a line instead of a parabola": Mutant(
        SIZES_TESTS, ((SIZES, "for other in TRIED if", "for other in TRIED[1:] if"),)
    ),
    "sizes: own sizes that go together are refused": Mutant(
        SIZES_TESTS, ((SIZES, "default=0) > MOST_MADE:", "default=0) > 0:"),)
    ),
    "sizes: a batch for nothing": Mutant(
        SIZES_TESTS, ((SIZES, "batch * cfg.replicates * step", "0 * step"),)
    ),
    "sizes: no limit of a cgroup": Mutant(
        SIZES_TESTS, ((SIZES, "limits.append(int(file.read_text()))", "pass"),)
    ),
    "sizes: no limit of a shell": Mutant(
        SIZES_TESTS, ((SIZES, "limits.append(max(0, soft))", "pass"),)
    ),
    "configuration: an optimizer that nobody has made": Mutant(
        EXPLAINED, ((PARTS, "    _check_optimizer(cfg.optimizer, cfg.trainer.accelerator)\n", ""),)
    ),
    "configuration: a schedule that nobody has asked": Mutant(
        EXPLAINED, ((PARTS, "    _check_schedule(cfg.schedule)\n", ""),)
    ),
    "command line: suggestions from another composition": Mutant(
        EXPLAINED, ((SUGGEST, "keys = _chosen(folders, words)", "keys = _chosen(folders, ())"),)
    ),
    "command line: no word on whose key it is": Mutant(
        EXPLAINED, ((SUGGEST, "if owners := _owners(key, folders):", "if owners := []:"),)
    ),
    "sweep: a search of whose choices only the ends are checked": Mutant(
        "test_sweep.py -k each_of_its",
        ((SWEEP, "range(max(map(len, ends), default=0))", "(0, -1)"),),
    ),
    "sweep: a value twice": Mutant(
        "test_sweep.py -k there_twice", ((SWEEP, "values.count(value) > 1", "False"),)
    ),
    "configuration: a run in two folders": Mutant(
        "test_command_line.py -k has_one_folder", ((CONFIG, "    _check_words(cfg)\n", ""),)
    ),
    "configuration: unknown keys at the root": Mutant(
        EXPLAINED, ((CONFIG, "and not _is_used(key, container)", "and False"),)
    ),
    "configuration: a check that fails open": Mutant(
        "test_command_line.py -k whatever",
        ((COMMAND_LINE, "raise Refused from error", "raise"),),
    ),
    "command line: a bug of ours told as a mistake of the user's": Mutant(
        "test_command_line.py -k whose",
        ((EXPLAIN, 'known[-1:] != ["flowlab"]', "True"),),
    ),
    "command line: no traceback of a bug": Mutant(
        "test_command_line.py -k nobody_thought",
        ((TERMINAL, "traceback.print_exception(error, file=file)", "pass"),),
    ),
    "command line: a cause left out of the log": Mutant(
        "test_command_line.py -k nobody_thought",
        ((TERMINAL, "error, file=file)", "error, file=file, chain=False)"),),
    ),
    "command line: an empty run directory stays": Mutant(
        "test_command_line.py -k stay_empty", ((COMMAND_LINE, "folder.rmdir()", "pass"),)
    ),
    "command line: a value quoted but once": Mutant(
        "test_command_line.py -k how_to_quote",
        ((EXPLAIN, "return shlex.quote(again) if is_pair", "return again if is_pair"),),
    ),
    "command line: the line of a YAML counted from 0": Mutant(
        "test_command_line.py -k yaml_of_ones_own", ((EXPLAIN, "mark.line + 1", "mark.line"),)
    ),
    "command line: files get the numbers of closed streams": Mutant(
        "test_command_line.py -k closed_streams",
        (("src/flowlab/commands/start.py", "if getattr(sys, name) is None:", "if False:"),),
    ),
    "help: of a key what the first file says": Mutant(
        "test_help.py",
        (
            (
                HELP,
                "said.update(_of_file(folders, group, chosen[group]))",
                "said = dict(_of_file(folders, group, chosen[group])) | said",
            ),
        ),
    ),
    "help: the files that a file is based on left out": Mutant(
        "test_help.py", ((HELP, "in filter(None, map(BASE.match, lines))", "in ()"),)
    ),
    # accidents
    "accidents: the death of the process that draws ends the run": Mutant(
        "test_painter.py -k goes_on", ((PAINTER, "(BrokenExecutor, MemoryError)", "MemoryError"),)
    ),
    "accidents: what the process that draws half wrote is left": Mutant(
        "test_painter.py -k goes_on",
        ((PAINTER, "            clear_parts(each)", "            pass"),),
    ),
    "accidents: data of one's own whose splits do not fit": Mutant(
        "test_extensions.py -k is_no_data", ((RUN, "shape[1:] == data.shape for", "True for"),)
    ),
    "accidents: a mistake that ends a run before its first step leaves a folder": Mutant(
        "test_pictures_tables.py -k column_that",
        ((TRAINER, "if ended or module.has_started:", "if True:"),),
    ),
    "accidents: residual blocks with an estimated log-det are replicated": Mutant(
        "test_residual.py -k not_replicated", ((REPLICATES, '"estimates", False', '"none", False'),)
    ),
    "accidents: words to a terminal that is gone": Mutant(
        "test_signals.py -k closed",
        ((SIGNALS, "os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)", "pass"),),
    ),
    "accidents: the second hang-up of a terminal ends the program at once": Mutant(
        "test_signals.py -k closed",
        ((SIGNALS, "signal.signal(signum, signal.SIG_IGN)\n        _leave", "_leave"),),
    ),
    "accidents: a mistake in the data leaves a directory": Mutant(
        "test_files.py -k leaves_nothing", ((LIFE, "mistake and undo(run_dir)", "False"),)
    ),
    "accidents: what was there before goes with it": Mutant(
        "test_files.py -k there_before",
        ((DIRECTORY, "None if any(run_dir.iterdir()) else made", "made"),),
    ),
    "accidents: a disk that takes no log is a bug of ours": Mutant(
        "test_command_line.py -k disk_that_takes",
        ((OUTPUT, "error.__cause__ if type(error) is ValueError else error", "error"),),
    ),
    "accidents: nohup in vain": Mutant(
        "test_signals.py -k nohup", ((SIGNALS, "!= signal.SIG_IGN", "!= None"),)
    ),
    # several processes
    "processes: a lone task of a Slurm job taken for one of several": Mutant(
        "test_distributed.py -k place", ((PROCESSES, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),)
    ),
    "processes: all of them speak": Mutant(
        "test_distributed.py -k silent", ((PROCESSES, "os.dup2(said.fileno(), 2)", "pass"),)
    ),
    "processes: a mistake told by each of them": Mutant(
        "test_distributed.py -k silent", ((PROCESSES, "time.sleep(PATIENCE)", "pass"),)
    ),
    "processes: deaf to the end that torchrun puts to them": Mutant(
        "test_distributed.py -k silent",
        ((PROCESSES, "signals.end_by_sigterm()", "pass"),),
    ),
    "processes: they meet where the network listens": Mutant(
        "test_distributed.py -k lost",
        ((PROCESSES, 'create_server(("127.0.0.1", 0))', 'create_server(("", 0))'),),
    ),
    "processes: each has a run directory": Mutant(
        "test_distributed.py -k curves",
        ((PROCESSES, "return counts if here.rank == 0 else", "return counts if True else"),),
    ),
    # tables
    "tables: rows of the test split are trained on": Mutant(
        TABLE_TESTS, ((POINTS, "order[start:end]", "order[:end]"),)
    ),
    "tables: the test rows have the noise of the validation rows": Mutant(
        TABLE_TESTS, ((POINTS, 'generator(f"data/noise/{s}", seed)', 'generator("noise", seed)'),)
    ),
    "tables: training rows get their noise once": Mutant(
        TABLE_TESTS, ((POINTS, 'for s in ("val", "test"):', "for s in SPLITS:"),)
    ),
    "tables: the first rows instead of a random number of them": Mutant(
        TABLE_TESTS, ((POINTS, "seed)).numpy()[:rows]", "seed)).numpy()[:rows] % (rows or 10**9)"),)
    ),
    "tables: what float32 merges stays merged": Mutant(
        TABLE_FAULTS, ((CELLS, "return large or not fine", "return False"),)
    ),
    "tables: an end of a support is within it": Mutant(
        TABLE_FAULTS, ((CELLS, "(values <= low)", "(values < low)"),)
    ),
    "tables: dependence in some rows is one in all": Mutant(
        TABLE_FAULTS, ((DEGENERATE, "found = dependent(parts, plain)  #", "#"),)
    ),
    "tables: a context counts as a coordinate": Mutant(
        TABLE_FAULTS,
        ((DEGENERATE, "if j >= len(columns.context)}:", "}:"),),
    ),
    "tables: short rows are filled up": Mutant(
        TABLE_FAULTS, ((TEXT_FILES, "    if differs:", "    if False:"),)
    ),
    "tables: text is as good as missing": Mutant(
        TABLE_FAULTS, ((CELLS, "if found.height:", "if False:"),)
    ),
    # posteriors
    "posteriors: the log-det of the wrong sign": Mutant(
        "test_posteriors.py -k 'loss_and_gradient'",
        ((REVERSE_KL, "flow.base.log_prob(u) - log_det", "flow.base.log_prob(u) + log_det"),),
    ),
    "posteriors: samples without gradients": Mutant(
        "test_posteriors.py -k 'loss_and_gradient'",
        ((REVERSE_KL, "    return x, flow.base", "    return x.detach(), flow.base"),),
    ),
    "posteriors: no beta": Mutant(
        "test_posteriors.py -k comes_in",
        ((REVERSE_KL, "beta.to(log_q) * self", "self"),),
    ),
    "posteriors: beta in evaluation too": Mutant(
        "test_posteriors.py -k 'rises or comes_in'",
        ((OBJECTIVE, "if not training or not share:", "if not share:"),),
    ),
    "posteriors: beta from nothing": Mutant(
        "test_posteriors.py -k rises", ((OBJECTIVE, "(LEAST + progress", "(progress"),)
    ),
    "posteriors: the progress of an epoch later": Mutant(
        "test_posteriors.py -k each_epoch",
        (
            (
                MODULE,
                "objective.progress.fill_(progress)",
                "objective.progress.fill_(progress + 0.25)",
            ),
        ),
    ),
    "posteriors: replicates stay in evaluation": Mutant(
        "test_posteriors.py -k 'each_epoch or cut_run'",
        ((REPLICATES, "form.train(self.training)", "pass"),),
    ),
    "posteriors: other draws in each validation": Mutant(
        "test_posteriors.py -k each_epoch",
        (
            (
                MODULE,
                '"evaluation", self.seed, int(index.flatten()[0])',
                '"evaluation", self.seed, self.step',
            ),
        ),
    ),
    "posteriors: ESS without the square": Mutant(
        "test_posteriors.py -k one_normal",
        ((REVERSE_KL, "torch.logsumexp(2 * log_weights, 0)", "torch.logsumexp(log_weights, 0)"),),
    ),
    "posteriors: log Z without log n": Mutant(
        "test_posteriors.py -k one_normal", ((REVERSE_KL, "total - math.log(n)", "total"),)
    ),
    "posteriors: the standard error of log Z of one sample": Mutant(
        "test_posteriors.py -k one_normal", ((REVERSE_KL, " / max(n - 1, 1)).sqrt()", ").sqrt()"),)
    ),
    "posteriors: the other KL": Mutant(
        "test_posteriors.py -k target_that_is_known",
        ((REVERSE_KL, "log_z - weights.mean()", "weights.mean() - log_z"),),
    ),
    "posteriors: a low ELBO is a good one": Mutant(
        "test_posteriors.py -k more_evidence",
        ((TABLES, 'gap < 0 if ranking.measure == "test/elbo" else gap > 0', "gap > 0"),),
    ),
    "posteriors: layers from data to base": Mutant(
        "test_posteriors.py -k overflows",
        ((DIAGNOSIS, "reversed([*enumerate(layers, start=1)])", "enumerate(layers, start=1)"),),
    ),
    "posteriors: sums over points pass in three dimensions": Mutant(
        "test_posteriors_own.py -k mistakes",
        ((PARTS, "num = 3 if target.dim != 3 else 4", "num = 3"),),
    ),
    "posteriors: a density without a gradient": Mutant(
        "test_posteriors_own.py -k mistakes",
        ((PARTS, "if not log_density.requires_grad:", "if False:"),),
    ),
    "posteriors: any flow generates": Mutant(
        "test_posteriors.py -k fit_is",
        ((OBJECTIVE, "if self.generates and not flow.generates:", "if False:"),),
    ),
    "posteriors: the layers turned round say the same": Mutant(
        "test_posteriors.py -k 'which_families or takes_about'",
        (
            (
                TRANSFORM,
                "not isinstance(transform, Inverse) or transform.transform.generates",
                "transform.generates",
            ),
        ),
    ),
    # autoencoders
    "autoencoders: the encoder's scale is not in the density": Mutant(
        "test_autoencoder.py -k 'jacobian or minus_log_p'",
        (
            (
                AUTOENCODER,
                "self.base.log_prob(noise) - log_scale.sum(-1)",
                "self.base.log_prob(noise)",
            ),
        ),
    ),
    "autoencoders: the flow's log-det is not in the density": Mutant(
        "test_autoencoder.py -k 'jacobian or minus_log_p'",
        ((AUTOENCODER, "log_scale.sum(-1) - log_det", "log_scale.sum(-1)"),),
    ),
    "autoencoders: the prior forgotten": Mutant(
        "test_autoencoder.py -k 'minus_log_p or comes_in'",
        ((ELBO, "(log_q - log_z) - log_x", "log_q - log_x"),),
    ),
    "autoencoders: the prior forgotten in the test": Mutant(
        "test_autoencoder.py -k quadrature",
        ((ELBO, "sum(model.log_joint(given, z))", "model.log_joint(given, z)[0]"),),
    ),
    "autoencoders: trained on noise": Mutant(
        "test_autoencoder.py -k 'minus_log_p or comes_in'",
        ((ELBO, "x = x.floor()  # without", "x = x  # without"),),
    ),
    "autoencoders: tested on noise": Mutant(
        "test_autoencoder.py -k quadrature",
        ((ELBO, "torch.split(x.floor(), PIECE)", "torch.split(x, PIECE)"),),
    ),
    "autoencoders: the mean of log weights": Mutant(
        "test_autoencoder.py -k quadrature",
        (
            (
                ELBO,
                "math.log(DRAWS) - torch.logsumexp(several, dim=0)",
                "-several.mean(0)",
            ),
        ),
    ),
    "autoencoders: zeros and ones drawn anew": Mutant(
        "test_autoencoder.py -k as_often",
        ((IMAGES, "part / (levels - 1), generator=g", "part / (levels - 1)"),),
    ),
    "autoencoders: one draw for all splits": Mutant(
        "test_autoencoder.py -k drawn_apart",
        ((IMAGES, 'generator(f"data/binary/{split}", seed)', 'generator("data/binary", seed)'),),
    ),
    "autoencoders: brightness of one level less": Mutant(
        "test_autoencoder.py -k as_often",
        ((IMAGES, "part / (levels - 1)", "part / levels"),),
    ),
    "autoencoders: keys beside the posterior": Mutant(
        "test_autoencoder.py -k stranger",
        ((EXPORT, '!= {"shape", "posterior"}:', "== {}:"),),
    ),
}


def run_tests(mutant: Mutant, folder: Path) -> tuple[int, str]:
    """Exit status and output of a mutant's tests on an edited copy of the project in `folder`."""
    for name in ("conf", "src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for file, right, wrong in mutant.edits:
        source = (folder / file).read_text()
        assert right in source, f"{file} changed; bring the mutant up to date: {right}"
        (folder / file).write_text(source.replace(right, wrong))
    command = f'"{sys.executable}" -m pytest -x -q -n 0 -m "" -p no:cacheprovider {mutant.tests}'
    run = subprocess.run(
        command,
        shell=True,
        cwd=folder / "tests",
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return run.returncode, run.stdout + run.stderr


def main(words: list[str]) -> int:
    lives = []
    for name, mutant in MUTANTS.items():
        if all(word in name for word in words):
            with tempfile.TemporaryDirectory() as folder:
                status, output = run_tests(mutant, Path(folder))
            fate = {0: "LIVES", 1: "caught"}.get(status, f"BROKEN, exit code {status}\n{output}")
            print(f"{name}: {fate}", flush=True)
            lives += [name] * (status != 1)
    print(f"{len(lives)} live: {', '.join(lives)}" if lives else "all caught")
    return len(lives)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) != 0)
