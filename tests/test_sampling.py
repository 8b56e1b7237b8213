"""The schedule, the samplers, guidance and the loop, judged on a denoiser whose answer is known in closed form."""

import ast
import inspect

import pytest
import torch
from diffusers import DDIMScheduler

from lavie import sampling
from lavie.manifest import EPSILON, PREDICTION_TYPES, SAMPLE
from lavie.request import SAMPLERS
from lavie.sampling import (
    Guided,
    RespacedDDIM,
    add_noise,
    denoise,
    implied_prediction,
    make_scheduler,
    predicted_clean,
    set_steps,
    training_alphas,
    training_target,
)

MEAN, DEVIATION = 0.7, 0.4  # of the data that the analytic denoiser knows
KINDS = [(name, False) for name in SAMPLERS] + [("ddim", True)]
IDS = [*SAMPLERS, "respaced"]
DETERMINISTIC = [(name, respaced) for name, respaced in KINDS if name != "ddpm"]


def gaussian(prediction_type: str):
    """The ideal denoiser of data that are normal with MEAN and DEVIATION: E[clean | noisy], as a prediction."""

    def predict(sample, timestep):
        alpha = training_alphas()[round(float(timestep))]
        variance = alpha * DEVIATION**2 + 1 - alpha
        clean = MEAN + alpha.sqrt() * DEVIATION**2 / variance * (sample - alpha.sqrt() * MEAN)
        noise = (sample - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        if prediction_type == SAMPLE:
            return clean
        return noise if prediction_type == EPSILON else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    return predict


def sample(name: str, steps: int, *, respaced: bool = False, kind: str = EPSILON, seed: int = 0) -> tuple:
    """Noise, where it went, and what was guessed on the way."""
    scheduler = make_scheduler(name, kind, respaced=respaced)
    set_steps(scheduler, steps)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 4, 2, 8, 8, generator=generator)
    told = list(denoise(gaussian(kind), noise, scheduler, kind, lambda step: generator))
    assert [index for index, *_ in told] == list(range(steps))
    return noise, told[-1][1], [clean for *_, clean in told]


@pytest.mark.parametrize(
    ("name", "respaced", "expected"),
    [
        ("ddpm", False, [980, 960, 940, 20, 0]),  # published: no offset
        ("ddim", False, [981, 961, 941, 21, 1]),  # published: an offset of one
        ("euler", False, [999, 999 * 48 / 49, 999 * 47 / 49, 999 / 49, 0]),  # published: linspace
        ("ddim", True, [999, 979, 958, 20, 0]),  # published with the interpolation network: round(linspace(0, 999, n))
        ("dpm++", False, [999, 979, 959, 40, 20]),
        ("unipc", False, [999, 979, 959, 40, 20]),
    ],
)
def test_fifty_steps_fall_on_the_published_timesteps(name, respaced, expected):
    scheduler = make_scheduler(name, respaced=respaced)
    set_steps(scheduler, 50)
    timesteps = [float(timestep) for timestep in scheduler.timesteps]
    assert len(timesteps) == 50
    assert timesteps[:3] + timesteps[-2:] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_has_lavies_linear_betas_and_not_those_of_stable_diffusion(name):
    alphas = make_scheduler(name).alphas_cumprod
    torch.testing.assert_close(alphas, training_alphas(), rtol=1e-4, atol=1e-7)
    assert alphas[0].item() == pytest.approx(1 - 1e-4, rel=1e-6)
    assert alphas[999].item() == pytest.approx(4.0358e-5, rel=1e-3)


def test_the_settings_that_would_be_silently_wrong_are_off():
    ddpm, ddim = make_scheduler("ddpm").config, make_scheduler("ddim").config
    assert not ddpm.clip_sample
    assert not ddim.clip_sample
    assert not ddim.set_alpha_to_one
    assert not make_scheduler("dpm++").config.get("thresholding", False)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_scheduler_is_told_what_the_network_predicts(name, kind):
    assert make_scheduler(name, kind).config.prediction_type == kind


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 999, 1000])
@pytest.mark.parametrize(("name", "respaced"), KINDS, ids=IDS)
def test_any_number_of_steps_within_the_limits_runs_and_stays_finite(name, respaced, steps):
    _, latents, _ = sample(name, steps, respaced=respaced)
    assert latents.isfinite().all()
    assert latents.abs().max() < 10


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("name", "respaced"), DETERMINISTIC, ids=IDS[1:])
def test_with_many_steps_a_sampler_finds_the_solution_known_in_closed_form(name, respaced, kind):
    """The flow of a Gaussian maps noise to mean + deviation · noise. All 1000 steps are the finest there are."""
    noise, latents, _ = sample(name, 1000, respaced=respaced, kind=kind)
    torch.testing.assert_close(latents, MEAN + DEVIATION * noise, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["dpm++", "unipc"])
def test_the_fast_samplers_converge_to_the_ddim_solution_in_a_tenth_of_its_steps(name):
    _, ddim, _ = sample("ddim", 1000)
    errors = [(sample(name, steps)[1] - ddim).abs().mean().item() for steps in (10, 25, 100)]
    slow = (sample("ddim", 100)[1] - ddim).abs().mean().item()
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < slow
    assert errors[2] < 0.01


def test_ddpm_draws_samples_of_the_datas_distribution():
    _, latents, _ = sample("ddpm", 1000)
    assert latents.mean().item() == pytest.approx(MEAN, abs=0.06)
    assert latents.std().item() == pytest.approx(DEVIATION, abs=0.04)


def test_ddpm_depends_on_its_generators_alone():
    one, again, other = (sample("ddpm", 5, seed=seed)[1] for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@pytest.mark.parametrize(("name", "respaced"), KINDS, ids=IDS)
def test_the_preview_is_the_clean_sample_that_the_prediction_implies(name, respaced, kind):
    """For the analytic denoiser it is between the data's mean (at pure noise) and the result (at the end)."""
    _, latents, guesses = sample(name, 20, respaced=respaced, kind=kind)
    torch.testing.assert_close(guesses[0], torch.full_like(latents, MEAN), atol=0.4, rtol=0)
    torch.testing.assert_close(guesses[-1], latents, atol=0.15, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 10, 50, 617, 1000])
def test_respaced_timesteps_are_distinct_and_each_step_leads_to_the_next_of_the_list(steps):
    scheduler = RespacedDDIM(EPSILON)
    scheduler.set_timesteps(steps)
    kept = scheduler.timesteps.tolist()
    assert kept == sorted(set(kept), reverse=True)
    assert kept[0] == (999 if steps > 1 else 0)
    assert kept[-1] == 0
    clean, noise = torch.randn(2, 1, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    alphas = [*training_alphas()[kept].tolist(), 1.0]
    for place, timestep in enumerate(scheduler.timesteps):
        noisy = alphas[place] ** 0.5 * clean + (1 - alphas[place]) ** 0.5 * noise
        (stepped,) = scheduler.step(noise, timestep, noisy)
        expected = alphas[place + 1] ** 0.5 * clean + (1 - alphas[place + 1]) ** 0.5 * noise
        torch.testing.assert_close(stepped, expected, atol=2e-3, rtol=0)


def test_only_ddim_is_respaced():
    assert isinstance(make_scheduler("ddim", respaced=True), RespacedDDIM)
    assert isinstance(make_scheduler("ddim"), DDIMScheduler)
    assert type(make_scheduler("dpm++", respaced=True)) is type(make_scheduler("dpm++"))


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_training_target_is_what_gives_back_the_clean_sample(kind):
    clean, noise = torch.randn(2, 3, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = torch.tensor([1, 400, 900])
    noisy, target = add_noise(clean, noise, timestep), training_target(clean, noise, timestep, kind)
    for item in range(3):
        given = predicted_clean(noisy[item], target[item], timestep[item], kind)
        torch.testing.assert_close(given, clean[item], atol=1e-3, rtol=0)


@pytest.mark.parametrize("timestep", [1, 400, 980])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_a_prediction_is_implied_by_the_clean_sample_that_it_implies(kind, timestep):
    sample, prediction = torch.randn(2, 1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    clean = predicted_clean(sample, prediction, torch.tensor(timestep), kind)
    again = implied_prediction(sample, clean, torch.tensor(timestep), kind)
    torch.testing.assert_close(again, prediction, atol=1e-3, rtol=1e-3)


class Spy:
    """A network that answers (text mean) · sample and remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, given, timestep, context, **conditions):
        self.calls.append((given, timestep, context, conditions))
        return given[:, :4] * context.embeddings.mean((1, 2)).view(-1, 1, 1, 1, 1)


def _text(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1).expand(-1, 77, 8)


LATENTS = torch.randn(1, 4, 2, 3, 3, generator=torch.Generator().manual_seed(0))


def test_guidance_is_the_unconditional_prediction_plus_the_scaled_difference():
    guided = Guided(Spy(), _text(0.5, 2.0), scale=7.5)(LATENTS, torch.tensor(5))
    torch.testing.assert_close(guided, LATENTS * (0.5 + 7.5 * (2.0 - 0.5)))


def test_guidance_zero_ignores_the_prompt():
    torch.testing.assert_close(Guided(Spy(), _text(0.5, 2.0), scale=0.0)(LATENTS, torch.tensor(5)), LATENTS * 0.5)


def test_guidance_one_is_the_conditional_prediction_at_half_the_price():
    network = Spy()
    alone = Guided(network, _text(2.0), scale=1.0)(LATENTS, torch.tensor(5))
    torch.testing.assert_close(alone, LATENTS * 2.0)
    assert network.calls[0][0].shape[0] == 1


def test_both_halves_see_the_same_sample_conditions_and_neighbouring_channels():
    network, beside, low = Spy(), torch.ones(1, 3, 2, 3, 3), torch.full((1, 3, 2, 3, 3), 5.0)
    Guided(network, _text(0.0, 1.0), 3.0, conditions={"low_res": low}, concatenate=beside)(LATENTS, torch.tensor(5))
    given, timestep, _, conditions = network.calls[0]
    assert torch.equal(given[0], given[1])
    assert torch.equal(given[:1], torch.cat([LATENTS, beside], dim=1))
    assert torch.equal(conditions["low_res"], torch.cat([low, low]))
    assert timestep == 5


def test_text_keys_and_values_are_kept_from_step_to_step():
    network = Spy()
    predict = Guided(network, _text(0.0, 1.0), 3.0)
    predict(LATENTS, torch.tensor(5))
    predict(LATENTS, torch.tensor(4))
    assert network.calls[0][2] is network.calls[1][2]


def test_a_full_rescale_gives_the_contrast_of_the_conditional_prediction_and_a_part_of_it_a_mixture():
    plain, half, full = (
        Guided(Spy(), _text(0.5, 2.0), 7.5, rescale)(LATENTS, torch.tensor(5)) for rescale in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(full.std(), (LATENTS * 2.0).std())
    torch.testing.assert_close(half, (plain + full) / 2)


def test_a_rescale_looks_at_each_clip_for_itself():
    latents = torch.cat([LATENTS, 10 * LATENTS])
    text = _text(0.5, 0.5, 2.0, 2.0)
    together = Guided(Spy(), text, 7.5, 0.7)(latents, torch.tensor(5))
    alone = Guided(Spy(), _text(0.5, 2.0), 7.5, 0.7)(LATENTS, torch.tensor(5))
    torch.testing.assert_close(together, torch.cat([alone, 10 * alone]))


def test_whoever_stops_asking_has_cancelled():
    calls = []

    def predict(given, timestep):
        calls.append(timestep)
        return given

    scheduler = make_scheduler("ddim")
    set_steps(scheduler, 10)
    loop = denoise(predict, LATENTS, scheduler)
    next(loop)
    next(loop)
    loop.close()
    assert len(calls) == 2


def test_the_denoising_loop_can_be_read_at_a_glance():
    (function,) = ast.parse(inspect.getsource(sampling.denoise)).body
    assert function.end_lineno - function.lineno + 1 < 50
