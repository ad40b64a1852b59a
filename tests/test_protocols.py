"""Every piece under the protocol or base class of its group, so that the type checker compares their members.

`ty check` reads this file too: it fails if a class in a table lacks a member of its protocol, or one in `construct` an
abstract method of its base class.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import yaml
from hydra.utils import get_object

from ditexp.cache.branches import Branches, Extrapolating, Remembering
from ditexp.cache.ddt import Decoding, Encoded, EncoderReuse, Encoding
from ditexp.cache.delta import Delta, Difference, Measuring, Skipping
from ditexp.cache.fora import FORA
from ditexp.cache.taylorseer import TaylorSeer
from ditexp.cached import CachedNetwork
from ditexp.condition.base import Conditioner as ConditionerBase
from ditexp.condition.labels import Balanced, InOrder, Random
from ditexp.condition.original import Original
from ditexp.condition.prompts import Prompts
from ditexp.condition.unconditional import Unconditional
from ditexp.core import (
    VAE,
    BetweenModel,
    Cache,
    CacheState,
    Codec,
    Conditioner,
    Data,
    EncoderWalk,
    EvaluatedModel,
    Feature,
    FlowMapModel,
    FlowModel,
    Guidance,
    GuidedVelocity,
    ResizableModel,
    Schedule,
    Solver,
    TextModel,
    TransformerBlock,
    TransformerModel,
    VarianceModel,
    VelocityField,
    Walk,
)
from ditexp.data import CaptionedDigits, Digits, ImageFolder
from ditexp.feature.digits import DigitsFeature
from ditexp.feature.dinov2 import DINOv2
from ditexp.feature.inception import Inception
from ditexp.field import CountedField
from ditexp.guidance.apg import AdaptiveProjected
from ditexp.guidance.autoguidance import Autoguidance
from ditexp.guidance.base import GuidedField
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.cfg_zero import CFGZero
from ditexp.guidance.none import ModelField, NoGuidance
from ditexp.guidance.rescaled import Rescaled
from ditexp.metric.base import Comparison, Metric
from ditexp.metric.density_coverage import DensityCoverage
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.fid_infinity import FrechetInfinity
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.kid import KernelDistance
from ditexp.metric.label_accuracy import LabelAccuracy
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.metric.trajectory import Trajectory
from ditexp.model.analytic import GaussianMixture
from ditexp.model.dit import Block
from ditexp.model.pretrained import PretrainedDiT
from ditexp.model.pretrained_flow_map import PretrainedFlowMap
from ditexp.model.pretrained_text import PretrainedTextDiT
from ditexp.model.sd3 import PipelineVAE, StableDiffusion3
from ditexp.model.text_dit import TextBlock
from ditexp.network import Network, Rehearsal
from ditexp.pixels import Pixels
from ditexp.schedule.beta import Beta
from ditexp.schedule.compat import DiffusersFlow, RAEPoints, SiTLastStep, SiTPoints
from ditexp.schedule.cosine import Cosine
from ditexp.schedule.ddpm import RespacedDDPM
from ditexp.schedule.explicit import Explicit
from ditexp.schedule.flux import Flux
from ditexp.schedule.karras import Karras
from ditexp.schedule.linear_quadratic import LinearQuadratic
from ditexp.schedule.logit_normal import LogitNormal
from ditexp.schedule.optimized import Optimized
from ditexp.schedule.power import Power
from ditexp.schedule.quadratic import Quadratic
from ditexp.schedule.shift import Shift
from ditexp.schedule.uniform import Uniform
from ditexp.solver.adams import AdamsBashforth, AdamsBashforthMoulton
from ditexp.solver.bosh3 import Bosh3, Bosh3Fixed
from ditexp.solver.ddim import DDIM
from ditexp.solver.ddpm import DDPM
from ditexp.solver.dopri5 import Dopri5, Dopri5Fixed
from ditexp.solver.dpm_solver import DPMSolverMultistep, DPMSolverSinglestep
from ditexp.solver.euler import Euler
from ditexp.solver.euler_maruyama import EulerMaruyama
from ditexp.solver.flow_map import FlowMapJumps
from ditexp.solver.heun import Heun
from ditexp.solver.heun3 import Heun3
from ditexp.solver.ipndm import IPNDM
from ditexp.solver.kutta3 import Kutta3
from ditexp.solver.midpoint import Midpoint
from ditexp.solver.ralston import Ralston
from ditexp.solver.rk4 import RK4
from ditexp.solver.rk4_38 import RK4ThreeEighths
from ditexp.solver.step_doubling import KnownStart, StepDoubling
from ditexp.solver.stochastic_heun import StochasticHeun
from ditexp.solver.torchdiffeq import Torchdiffeq
from ditexp.solver.tsit5 import Tsit5
from ditexp.solver.unipc import UniPC
from ditexp.task.base import Task
from ditexp.task.edit import Edit
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint
from ditexp.task.interpolate import Interpolate, InterpolateImages
from ditexp.task.progressive import Progressive
from ditexp.tracker import Tracker
from ditexp.tracker.null import NullTracker
from ditexp.tracker.runs import WandbRuns
from ditexp.tracker.tensorboard import TensorBoardTracker
from ditexp.tracker.wandb import WandbTracker
from ditexp.vae.autoencoder import Autoencoder
from ditexp.vae.codec import LatentCodec, LatentDecoder
from tests.helpers.paths import CONF

RUNGE_KUTTA: tuple[type[Solver], ...] = (
    *(Bosh3Fixed, Dopri5Fixed, Euler, Heun, Heun3, Kutta3, Midpoint, Ralston, RK4, RK4ThreeEighths),
)
MULTISTEP: tuple[type[Solver], ...] = (AdamsBashforth, AdamsBashforthMoulton, IPNDM, DPMSolverMultistep, UniPC)
ADAPTIVE: tuple[type[Solver], ...] = (Bosh3, Dopri5, Tsit5, StepDoubling, Torchdiffeq)
SDE: tuple[type[Solver], ...] = (EulerMaruyama, StochasticHeun)
DISCRETE: tuple[type[Solver], ...] = (DDPM, DDIM)
TWO_TIMES: tuple[type[Solver], ...] = (FlowMapJumps,)
SOLVERS: tuple[type[Solver], ...] = (
    *RUNGE_KUTTA,
    *MULTISTEP,
    DPMSolverSinglestep,
    *ADAPTIVE,
    *SDE,
    *DISCRETE,
    *TWO_TIMES,
)

SCHEDULES: tuple[type[Schedule], ...] = (
    *(Beta, Cosine, DiffusersFlow, Explicit, Flux, Karras, LinearQuadratic, LogitNormal, Optimized, Power, Quadratic),
    *(RAEPoints, RespacedDDPM, Shift, SiTLastStep, SiTPoints, Uniform),
)
GUIDANCE: tuple[type[Guidance], ...] = (
    *(NoGuidance, ClassifierFree, CFGZero, AdaptiveProjected, Rescaled, Autoguidance),
)
FIELDS: tuple[type[VelocityField], ...] = (ModelField, GuidedField, KnownStart)
GUIDED_FIELDS: tuple[type[GuidedVelocity], ...] = (GuidedField, CountedField)

MODELS: tuple[type[FlowModel], ...] = (
    *(GaussianMixture, PretrainedDiT, PretrainedFlowMap, PretrainedTextDiT, StableDiffusion3),
)
FLOW_MAP_MODELS: tuple[type[FlowMapModel], ...] = (PretrainedFlowMap,)
TRANSFORMER_MODELS: tuple[type[TransformerModel], ...] = (PretrainedDiT, PretrainedTextDiT)
TRANSFORMER_BLOCKS: tuple[type[TransformerBlock], ...] = (Block, TextBlock)
VARIANCE_MODELS: tuple[type[VarianceModel], ...] = (PretrainedDiT,)
TEXT_MODELS: tuple[type[TextModel], ...] = (PretrainedTextDiT, StableDiffusion3)
BETWEEN_MODELS: tuple[type[BetweenModel], ...] = (PretrainedDiT, PretrainedFlowMap, PretrainedTextDiT, StableDiffusion3)
RESIZABLE_MODELS: tuple[type[ResizableModel], ...] = (PretrainedDiT, PretrainedTextDiT, StableDiffusion3)
EVALUATED_MODELS: tuple[type[EvaluatedModel], ...] = (Network, Rehearsal, CachedNetwork)

CACHES: tuple[type[Cache], ...] = (FORA, TaylorSeer, Delta, EncoderReuse)
CACHE_STATES: tuple[type[CacheState], ...] = (Branches, Difference, Encoded)
WALKS: tuple[type[Walk], ...] = (Remembering, Extrapolating, Measuring, Skipping, Encoding, Decoding)
ENCODER_WALKS: tuple[type[EncoderWalk], ...] = (Encoding, Decoding)

VAES: tuple[type[VAE], ...] = (Autoencoder,)
CODECS: tuple[type[Codec], ...] = (LatentCodec, LatentDecoder, Pixels, PipelineVAE)

CONDITIONERS: tuple[type[Conditioner], ...] = (Balanced, InOrder, Random, Original, Prompts, Unconditional)
TASKS: tuple[type[Task], ...] = (Generate, Inpaint, Edit, Interpolate, InterpolateImages, Progressive)

COMPARISONS: tuple[type[Comparison], ...] = (Trajectory,)
METRICS: tuple[type[Metric], ...] = (
    *(FrechetDistance, FrechetInfinity, InceptionScore, KernelDistance, LabelAccuracy, PrecisionRecall),
    DensityCoverage,
)
FEATURES: tuple[type[Feature], ...] = (DigitsFeature, DINOv2, Inception)
IMAGES: tuple[type[Data], ...] = (Digits, ImageFolder)  # that tasks can start from; captions are for training only
TRACKERS: tuple[type[Tracker], ...] = (NullTracker, TensorBoardTracker, WandbTracker)
TRACKERS_BESIDE: tuple[type[Tracker], ...] = (WandbRuns,)

GROUPS: dict[str, tuple[type, ...]] = {
    "solver": SOLVERS,
    "schedule": SCHEDULES,
    "guidance": GUIDANCE,
    "cache": CACHES,
    "model": MODELS,
    "vae": VAES,
    "condition": CONDITIONERS,
    "task": TASKS,
    "metric": (*METRICS, *COMPARISONS),
    "feature": FEATURES,
    "data": (*IMAGES, CaptionedDigits),
    "tracker": TRACKERS,
}


def construct(settings: dict[str, Any]) -> tuple[object, ...]:
    """Never called. The type checker refuses to construct a class that has abstract methods left."""
    return (
        *(
            Balanced(**settings),
            InOrder(**settings),
            Random(**settings),
            Original(**settings),
            Prompts(**settings),
            Unconditional(),
        ),
        *(Generate(), Inpaint(**settings), Edit(**settings), Interpolate(**settings), Progressive(**settings)),
        InterpolateImages(**settings),
        *(FrechetDistance(**settings), FrechetInfinity(**settings), KernelDistance(**settings), LabelAccuracy()),
        *(PrecisionRecall(**settings), DensityCoverage(**settings), InceptionScore(**settings), Trajectory(**settings)),
        *(Beta(**settings), Cosine(**settings), Flux(**settings), Karras(**settings), LogitNormal(**settings)),
        *(LinearQuadratic(**settings), Power(**settings), Quadratic(**settings), Shift(**settings)),
        *(Uniform(**settings), Explicit(**settings), Optimized(**settings), DiffusersFlow(**settings)),
        *(SiTPoints(**settings), SiTLastStep(**settings), RespacedDDPM(**settings), DDPM(), DDIM()),
        *(ClassifierFree(**settings), CFGZero(**settings), Rescaled(**settings), AdaptiveProjected(**settings)),
        Autoguidance(**settings),
        *(FORA(**settings), TaylorSeer(**settings), Delta(**settings), EncoderReuse(**settings)),
        *(AdamsBashforth(), AdamsBashforthMoulton(), IPNDM(), DPMSolverMultistep(), DPMSolverSinglestep(), UniPC()),
        *(Euler(), Heun(), Heun3(), Kutta3(), Midpoint(), Ralston(), RK4(), RK4ThreeEighths(), Bosh3Fixed()),
        *(
            Dopri5Fixed(),
            Bosh3(),
            Dopri5(),
            Tsit5(),
            StepDoubling(**settings),
            Torchdiffeq(),
            EulerMaruyama(),
            StochasticHeun(),
        ),
    )


BASES: tuple[type, ...] = (ConditionerBase, Task, Metric, Comparison)


def named_in(group: str) -> set[type]:
    files = (yaml.safe_load(file.read_text()) for file in sorted((CONF / group).glob("*.yaml")))
    parts = (part for file in files for part in (file, *file.values()))
    return {get_object(part["_target_"]) for part in parts if isinstance(part, dict) and "_target_" in part}


@pytest.mark.parametrize("group", GROUPS)
def test_a_table_has_exactly_what_the_configs_name(group):
    assert set(GROUPS[group]) == named_in(group)


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_left_abstract(group):
    assert not [cls.__name__ for cls in GROUPS[group] if inspect.isabstract(cls)]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.__name__)
def test_a_base_class_requires_something(base):
    """So that a piece that lacks it cannot be made."""
    assert inspect.isabstract(base)
