"""The methods that HyperSpy's signals get: check, estimate, wrap.

HyperSpy imports this module while it loads, so everything else is imported on the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Any

    import numpy as np
    from hyperspy.signal import BaseSignal

    from hyperspy_specml.decompose import ConvOptions, DenseOptions, PCAOptions, SimplexOptions
    from hyperspy_specml.denoise import DenoiseOptions
    from hyperspy_specml.models import TrainedModel
    from hyperspy_specml.progress import Progress
    from hyperspy_specml.results import AnomalyResult, DecompositionResult, PhaseResult
    from hyperspy_specml.run import TrainConfig


def decomposition_ae(
    self: BaseSignal,
    output_dimension: int | None = None,
    *,
    architecture: str = "dense",
    options: PCAOptions | DenseOptions | ConvOptions | SimplexOptions | None = None,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    noise: str = "auto",
    energy_shift: bool = False,
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
    model: TrainedModel | str | os.PathLike[str] | None = None,
    align: bool = False,
    config: TrainConfig | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | Iterable[str] | None = None,
) -> DecompositionResult:
    """Decompose spectra with an autoencoder, scored beside PCA on counts that no model has seen.

    The data are split into training (70 %), validation (15 %) and test (15 %) counts, compressed to the
    principal axes of the noise-whitened training counts, and an autoencoder that starts as PCA is trained
    there to predict one part of the counts from the others. The validation counts stop the training; then it
    goes on with all counts. The file is read twice, whatever its size.

    Parameters
    ----------
    output_dimension
        Number of components K. By default the smallest number whose held-out score is not worse than the
        best by more than its standard error.
    architecture
        "dense": nonlinear encoder and decoder. "conv": as "dense", by convolutions along energy. "simplex":
        abundances that sum to one of non-negative endmember spectra, and an intensity for each pixel. "vae": as
        "dense", with the error of every score. "pca": noise-weighted principal components. Or one that
        ``specml.register_architecture`` made known.
    options
        Of the architecture, by its own class: ``specml.DenseOptions(n_hidden=128)``, ``specml.SimplexOptions``,
        ``specml.PCAOptions(centre=True)``.
    navigation_mask, signal_mask
        Pixels and channels to leave out, True = masked. Signals, or arrays in array order
        (``s.data.shape[:-1]`` and ``s.data.shape[-1:]``).
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian" (variance = gain * mean + readout**2, both and the
        correlation along energy estimated from the data).
    energy_shift
        Whether a drift or chemical shift, found for each pixel, moves its spectrum along energy. Known to
        "simplex" only; for shifts up to about the width of the sharpest feature, on uniform energy axes.
    random_state
        Seed of the split, the sample of pixels, the weights and the batches.
    device
        "auto", "cpu", "cuda", "mps": where the network is trained.
    show_progressbar
        True or False; by default HyperSpy's preference. Or a ``specml.Progress``, which a widget watches and can
        cancel.
    model
        ``result.model`` of another map, or the path of the file that ``result.model.save(path)`` made. It is
        applied in one pass and nothing is fitted. Size, architecture, noise and signal mask are the model's
        own. Where the energy channels differ the model is resampled to those of the signal.
    align
        Whether the energy axis of the map may be calibrated otherwise than that of the `model`: one shift and one
        dispersion are found by likelihood, with errors, and used where they describe the map clearly better. The model
        is resampled, never the counts. Chemistry shifts edges too: the report says what was found, and how well
        the model describes this map beside a PCA fitted on it.
    config
        Training and memory: ``specml.TrainConfig``.
    interactive
        Open a tool with these arguments instead: its Run computes, and ``tool.result`` is what this method returns.
    display
        Show the tool and return it. If False, return what HyperSpy's ``gui(display=False)`` returns.
    toolkit
        Of the tool, "ipywidgets" or "traitsui"; by default all that are installed and not switched off in HyperSpy's
        preferences.

    Returns
    -------
    DecompositionResult
        Score maps and component spectra in memory (of "simplex" also maps of intensity and shift),
        reconstruction and residual lazy if the signal is, the PCA baseline and the report. The signal itself
        is not changed.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError
        Not exactly one signal axis; no navigation axis.
    DataTypeError
        Complex, structured or object data.
    MaskError
        A mask of the wrong dtype or shape, or one that masks everything.
    TooFewSpectraError
        Fewer usable spectra or channels than components ask for; with a `model`, no usable spectrum.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    OptionError
        An unknown architecture, noise model or device, options of another architecture, an impossible number, an
        argument that a `model` would have to ignore, `align` without one, or ``energy_shift=True`` for an
        architecture or an energy axis that cannot.
    EnergyAxisMismatchError
        `model` was trained on another energy axis, and cannot be resampled soundly, or not be aligned within 6 % of the
        axis and 4 % of the dispersion.
    ModelFileError
        `model` is the path of a file that is no model or a damaged one.
    TrainingDivergedError
        The loss diverged with every seed or start tried; ``architecture="pca"`` needs no training.
    Cancelled
        The `Progress` was cancelled before or after the network was trained; a training keeps its best so far.
    ImportError
        ``interactive=True`` without the package of a toolkit; the message says how to install it.

    Warns
    -----
    BaselineBetterWarning
        PCA of the same size has the better held-out score by more than two standard errors.

    Notes
    -----
    Simplex: ``reconstruction = intensity * scores @ components``, trained under the likelihood of the noise. The
    components sum to one, so the intensity is the expected sum of a spectrum and scores are shares of it. An
    encoder on the compressed spectra finds the abundances; a trained model needs one pass over a new map.
    Data do not decide how far the simplex reaches beyond them: a penalty on its volume, the largest that does not
    spoil the score on the validation counts, keeps it small. Four starts, vertices
    of the data and factorisations, are trained briefly; the best on the validation counts goes on and the
    report lists all. Data cannot tell where no drift is: shifts are zero, on average, where the scan begins
    (the first 64th of its spectra).

    Where the map holds counts, a spectrum without any is data, vacuum too: mask it, ``navigation_mask=...``.
    Otherwise empty spectra are left out of the fit and are 0 in all outputs, as dead channels always are. Spectra
    with NaN or infinite values, channels in which most spectra have such values, and saturated channels are left
    out and are NaN; so is what the user masks. The report counts them.

    References
    ----------
    M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36 (2004) 203 (noise weighting);
    J. Batson, L. Royer, J. Webber, bioRxiv 786269 (2019) (scores on held-out counts);
    J. Lehtinen et al., ICML 2018 (training on noisy targets);
    M. Berman et al., IEEE Trans. Geosci. Remote Sens. 42 (2004) 2085 (small simplices).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
    >>> dec.scores
    <Signal2D, title: Scores of Simulated Fe-Cr-Ni map, dimensions: (3|16, 16)>
    """
    return _answer("decomposition_ae", "DecompositionAE", locals())


def anomaly_map(
    self: BaseSignal,
    *,
    fdr: float = 0.01,
    threshold: float | None = None,
    statistic: str = "scan",
    output_dimension: int | None = None,
    architecture: str = "pca",
    options: DenseOptions | None = None,
    known: BaseSignal | None = None,
    drift: bool = True,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    noise: str = "auto",
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
    model: TrainedModel | str | os.PathLike[str] | None = None,
    align: bool = False,
    config: TrainConfig | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | Iterable[str] | None = None,
) -> AnomalyResult:
    """Find pixels and regions whose spectra the rest of the map does not explain, with known error rates.

    A reference model of ordinary spectra is learnt from the map itself: PCA, without the few places that may
    contain something rare, with the number of components that held-out counts choose. The difference between
    data and model is summed over windows of energy (1, 2 and 4 line widths) and squares of pixels (1, 3 and 5
    pixels wide), and each sum is compared with its noise. The strongest sum of a pixel becomes a p-value: maps
    that are drawn from the model and scanned in the same way show how strong it is by chance.

    Parameters
    ----------
    fdr
        Accepted fraction of false regions among the regions found, on average.
    threshold
        Smallest `score` of a region, instead of `fdr`.
    statistic
        "scan", or one of the literature's, which need a `threshold`: "squared_error", "deviance" (both
        between spectrum and model) or "rx" (Mahalanobis distance of the model's coefficients).
    output_dimension
        Components of the reference model. By default held-out counts choose them.
    architecture
        Reference model: "pca"; "dense", an autoencoder; "auto" trains the autoencoder beside PCA and takes it
        if it clearly better describes sums over neighbouring pixels, on held-out counts. Beside `known`, "auto"
        is "pca".
    options
        Options of the autoencoder: ``specml.DenseOptions``.
    known
        Spectra of phases that count as ordinary although they are rare, such as ``found.spectra.inav[0]`` of an
        earlier search, of this map or another. Navigation axes are free.
    drift
        Take the drift of the energy axis from scan line to scan line back, where there is one. Not for X-ray
        maps, and not with the `model` of a decomposition.
    navigation_mask, signal_mask
        Pixels and channels to leave out, True = masked. Signals, or arrays in array order
        (``s.data.shape[:-1]`` and ``s.data.shape[-1:]``).
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian" (variance = gain * mean + readout**2, both and the
        correlation along energy estimated from the data).
    random_state
        Seed of the split into folds, of the maps drawn, and of a network.
    device
        Where the autoencoder is trained: "cpu", "cuda", "mps", or "auto".
    show_progressbar
        By default HyperSpy's preference. A `Progress` is told how far the call is, and can cancel it.
    model
        ``found.model`` of another map, or the path of its file: the reference model is used as it is, with its
        errors and its null distribution, so that scores are comparable. Or the model of a decomposition,
        ``dec.model``, of a map in which everything is ordinary: its errors on this map are measured, and its
        null distribution is drawn.
    align
        Whether the energy axis of the map may be calibrated otherwise than that of the `model`: one shift and one
        dispersion are found by likelihood, and used where they describe the map clearly better; the report says what
        was found. The model is resampled, never the counts; its errors are measured on this map, and its null
        distribution is drawn, as with ``dec.model``. It costs one more pass.
    config
        Everything else: ``hyperspy_specml.TrainConfig``.
    interactive
        Open a tool with these arguments instead: its Run computes, and ``tool.result`` is what this method returns.
    display
        Show the tool and return it. If False, return what HyperSpy's ``gui(display=False)`` returns.
    toolkit
        Of the tool, "ipywidgets" or "traitsui"; by default all that are installed and not switched off in HyperSpy's
        preferences.

    Returns
    -------
    AnomalyResult
        Maps of score, p-value, detections and energy; regions with their spectra and candidate elements;
        spikes; the reference model. All in memory; the signal itself is not changed.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError
        Not exactly one signal axis; no navigation axis.
    DataTypeError
        Complex, structured or object data.
    MaskError
        A mask of the wrong dtype or shape, or one that masks everything.
    TooFewSpectraError
        Fewer usable spectra or channels than the model needs.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    OptionError
        An unknown statistic, architecture, noise model or device, options of another architecture, an impossible
        number, `known` spectra that are none or that stand beside an autoencoder, or an argument that would have
        to be ignored: beside a `model`, or because no network is trained.
    TrainingDivergedError
        The autoencoder of architecture="dense" diverged.
    EnergyAxisMismatchError
        `model` was trained on another energy axis, and cannot be resampled soundly, or not be aligned within 6 % of the
        axis and 4 % of the dispersion; `known` has another one.
    ModelFileError
        `model` is the path of a file that is no model or a damaged one.
    Cancelled
        The `Progress` was cancelled; while the autoencoder is trained, that ends the training only.
    ImportError
        ``interactive=True`` without the package of a toolkit; the message says how to install it.

    Notes
    -----
    Masked and not finite spectra are NaN in maps of floats and False in `detections`. Where the map holds counts, a
    spectrum without any is data, vacuum too: mask it, ``navigation_mask=...``. Otherwise empty spectra have p = 1.

    The line width comes from the detector's resolution in the metadata of X-ray maps, else from the sharpest
    structure of the mean spectrum. In the latter case, as in EELS, the energy axis may drift from scan line to
    scan line. Where the two halves of the lines agree on the drift, lines are moved back by whole channels
    before all else: energies and spectra of the result are those of the typical line, and channels that some
    line lacks are not searched. Residuals are also compared with the derivative of the expected spectrum, which
    shows shifts that no window does.

    With ``found.model`` of such a map, lines that drift are moved to where the model has its spectra; lines that
    then lack channels of the model are NaN. Its scores suppose spectra with a similar number of counts.

    References
    ----------
    M. Kulldorff, Commun. Stat. Theory Methods 26 (1997) 1481 (scan statistics);
    Y. Benjamini, Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289 (false discovery rate);
    I. S. Reed, X. Yu, IEEE Trans. Acoust. 38 (1990) 1760 (RX).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> rare = specml.datasets.RarePhase(n_pixels=9, elements=("Nb",))
    >>> s = specml.datasets.fe_cr_ni_map((32, 32), n_channels=512, rare_phase=rare).signal
    >>> found = s.anomaly_map(show_progressbar=False)
    >>> found.score
    <BaseSignal, title: Anomaly map of Simulated Fe-Cr-Ni map, dimensions: (32, 32|)>
    """
    return _answer("anomaly_map", "AnomalyMap", locals())


def denoise_dae(
    self: BaseSignal,
    *,
    context: str = "auto",
    corruption: str = "split",
    pairs: tuple[BaseSignal, BaseSignal] | None = None,
    protect: bool = True,
    options: DenoiseOptions | None = None,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    noise: str = "auto",
    random_state: int = 0,
    device: str = "auto",
    show_progressbar: bool | Progress | None = None,
    model: TrainedModel | str | os.PathLike[str] | None = None,
    align: bool = False,
    config: TrainConfig | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | Iterable[str] | None = None,
) -> BaseSignal:
    """Denoise spectra with the candidate that predicts held-out counts best.

    Candidates are plain PCA, PCA with filtered score maps (Gaussian, total variation, joint non-local means,
    mixtures of them), an autoencoder that sees one spectrum at a time, and a network that sees neighbouring
    pixels of the score maps and weights the filters pixel by pixel. The data are split into training (70 %),
    validation (15 %) and test (15 %) counts: the first train, the second choose the candidate, the third measure
    its error. Networks learn to predict one part of the training counts from the others, so no clean data are
    needed. Afterwards the residual is searched for signal that noise cannot explain, and that is restored. The
    file is read three times, whatever its size, and twice more where something is restored.

    Parameters
    ----------
    context
        What candidates may see. "spectral": one spectrum at a time, for spectra whose order means nothing.
        "spatial": neighbouring pixels too. "auto": the validation counts decide. They also decide, in any
        context, over how many neighbours the total counts of a spectrum are averaged.
    corruption
        What networks are trained on. "split": one part of the counts is input, the others are target. The
        classical corruptions add noise to the training counts and have them as target: "poisson" draws counts
        with these as means, "gaussian" adds noise of the variance of the noise, "mask" sets a quarter of the
        channels to zero. They teach a network to keep noise of its target, and the held-out scores show it.
    pairs
        Two signals of the same area, recorded independently, e.g. the sums of the odd and of the even frames,
        or two detectors; this signal may be their sum. Networks learn from the first and are scored on the
        second, so the choice does not rely on a noise model. Their axes are those of this signal.
    protect
        Restore removed signal that noise cannot explain, e.g. the lines of a rare phase: each pixel gets its
        own counts there, noise included, and the report says where. False leaves the map as smooth as the
        candidate made it.
    options
        Of the candidates: ``hyperspy_specml.DenoiseOptions``.
    navigation_mask, signal_mask
        Pixels and channels to leave out, True = masked. Signals, or arrays in array order
        (``s.data.shape[:-1]`` and ``s.data.shape[-1:]``). Masked pixels do not influence their neighbours.
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian", as in `decomposition_ae`.
    random_state
        Seed of the split, the sample of pixels, the weights and the batches.
    device
        "auto", "cpu", "cuda", "mps": where networks are trained.
    show_progressbar
        By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.
    model
        ``specml.denoise_model(clean)`` of another denoised map, ``specml.train_denoiser(library)``, or the
        path of the file that their ``save(path)`` made. It is applied in one pass, and one more looks for
        removed signal; nothing is fitted. Noise model and signal mask are the model's own. A map with more
        or fewer counts is scaled to those of the training; where the energy channels differ the model is
        resampled to those of the signal.
    align
        Whether the energy axis of the map may be calibrated otherwise than that of the `model`: one shift and one
        dispersion are found by likelihood, and used where they describe the map clearly better; the report says what
        was found. The model is resampled, never the counts. It costs one more pass.
    config
        Settings of training and computation: ``hyperspy_specml.TrainConfig``.
    interactive
        Open a tool with these arguments instead: its Run computes, and ``tool.result`` is what this method returns.
    display
        Show the tool and return it. If False, return what HyperSpy's ``gui(display=False)`` returns.
    toolkit
        Of the tool, "ipywidgets" or "traitsui"; by default all that are installed and not switched off in HyperSpy's
        preferences.

    Returns
    -------
    The denoised signal: class, axes and laziness of this one, float32. Its metadata keep the report,
    ``specml.denoise_report(clean)``, and what denoised it, ``specml.denoise_model(clean)``, through copies,
    slices and files. The signal itself is not changed

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError
        Not exactly one signal axis; no navigation axis.
    DataTypeError
        Complex, structured or object data.
    MaskError
        A mask of the wrong dtype or shape, or one that masks everything.
    PairsError
        `pairs` are not two signals of the shape and the energy axis of this one, or hold the same counts.
    TooFewSpectraError
        Fewer than four usable spectra, or fewer than two channels; with a `model`, no usable spectrum.
    NegativeCountsError, NotCountsError
        noise="poisson" or corruption="poisson" for values that are negative or not whole; with a `model` of
        counts, spectra whose mean is not positive.
    OptionError
        An unknown context, corruption, noise model or device, an impossible number, `protect` that is not a
        bool, options or settings of another class, or an argument that `pairs` or a `model` would have to
        ignore.
    EnergyAxisMismatchError
        `model` was trained on another energy axis, and cannot be resampled soundly, or not be aligned within 6 % of the
        axis and 4 % of the dispersion.
    ModelFileError
        `model` is the path of a file that is no model or a damaged one.
    Cancelled
        The progress was cancelled before any candidate was ready or after one was chosen.
    ImportError
        ``interactive=True`` without the package of a toolkit; the message says how to install it.

    Warns
    -----
    RemovedSignalWarning
        With ``protect=False``, signal was removed that noise cannot explain; the report says what and where.

    Notes
    -----
    Denoised counts are not negative, and at every level of intensity they hold as many counts as the data do.
    A spectrum without any counts is data, as in the vacuum beside a particle: mask what was not scanned,
    ``navigation_mask=...``. Where data are no counts, spectra of zeros stay zero.

    Dead channels are 0 in the result; spectra and channels that cannot be used, or are masked, are NaN. Of
    spectra that are not finite at their ends, because they were aligned, the channels are left out.

    Maps larger than what fits into memory with its folds are learnt from some boxes all over the map and
    denoised box by box, with what the filters see around each.

    References
    ----------
    J. Lehtinen et al., ICML 2018 (training on noisy targets);
    J. Batson, L. Royer, J. Webber, bioRxiv 786269 (2019) (scores on held-out counts).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((16, 16), n_channels=256).signal
    >>> s.denoise_dae(context="spatial", show_progressbar=False)
    <EDSTEMSpectrum, title: Simulated Fe-Cr-Ni map denoised, dimensions: (16, 16|256)>
    """
    return _answer("denoise_dae", "DenoiseDAE", locals())


def phase_map(
    self: BaseSignal,
    n_phases: int | None = None,
    *,
    known: BaseSignal | None = None,
    labels: BaseSignal | np.ndarray | Mapping[str, Any] | None = None,
    mixed: bool = True,
    level: float = 0.01,
    navigation_mask: BaseSignal | np.ndarray | None = None,
    signal_mask: BaseSignal | np.ndarray | None = None,
    noise: str = "auto",
    random_state: int = 0,
    show_progressbar: bool | Progress | None = None,
    model: TrainedModel | str | os.PathLike[str] | None = None,
    align: bool = False,
    config: TrainConfig | None = None,
    interactive: bool = False,
    display: bool = True,
    toolkit: str | None = None,
) -> PhaseResult:
    """Find the phases of a map: where each of them is, how much there is of it, and its spectrum.

    A mixture of phase spectra is fitted to the counts themselves, with the intensity of every pixel free.
    Neighbouring pixels are likely to be of one phase: how likely, and how many phases there are, is what best
    predicts counts that were held out. The file is read three or four times, whatever its size.

    Parameters
    ----------
    n_phases
        Number of phases K, known and labelled ones included. By default as many as held-out counts
        support, without those that lie between two others as their mixture or that vary into one another.
    known
        Spectra of phases that are there however few pixels they have, such as ``found.spectra`` of
        ``s.anomaly_map()``; navigation axes are free. They come first, as "known 0" and so on.
    labels
        Pixels whose phase is known: whole numbers, the phase from 0 on and -1 for all other pixels, in the shape of
        the map (a signal, or an array in array order); or names with regions of interest or boolean masks,
        ``{"ferrite": hs.roi.RectangularROI(...)}``. There are then no other phases, unless `n_phases` asks for more.
    mixed
        Whether a pixel near a border may be a mixture of the two phases that meet there. Such pixels shape no
        phase, so that blurred borders do not become phases.
    level
        Beside a `model`: p-value below which a pixel is none of its phases.
    navigation_mask, signal_mask
        Pixels and channels to leave out, True = masked. Signals, or arrays in array order
        (``s.data.shape[:-1]`` and ``s.data.shape[-1:]``).
    noise
        "auto", "poisson", "gaussian" or "poisson-gaussian", as in `decomposition_ae`.
    random_state
        Seed of the split into folds and of simulated spectra.
    show_progressbar
        By default HyperSpy's preference. A ``hyperspy_specml.Progress`` follows and cancels the call.
    model
        ``phases.model`` of another map, or the path of its file: its phases are recognised, and nothing is fitted.
        Or ``dec.model`` of ``s.decomposition_ae()``: phases are found where its latents lie together, in units of
        their errors, so that spectra may vary within a phase, as with lines that move; mixed pixels are not looked
        for. Where the energy channels differ the model is resampled to those of the signal.
    align
        Whether the energy axis of the map may be calibrated otherwise than that of the `model`: one shift and one
        dispersion are found by likelihood, and used where they describe the map clearly better; the report says what
        was found. The model is resampled, never the counts. It costs one more pass.
    config
        Memory: ``hyperspy_specml.TrainConfig``.
    interactive
        Open a tool with these arguments instead: its Run computes, and ``tool.result`` is what this method returns.
    display
        Show the tool and return it. If False, return what HyperSpy's ``gui(display=False)`` returns.
    toolkit
        Of the tool, "ipywidgets" or "traitsui"; by default all that are installed and not switched off in HyperSpy's
        preferences.

    Returns
    -------
    PhaseResult
        Maps of labels, probabilities and mixed pixels, summed spectra, shares with their errors, the report
        and the model. All in memory; the signal itself is not changed.

    Raises
    ------
    SpectraRequiredError, NavigationRequiredError
        Not exactly one signal axis; no navigation axis.
    DataTypeError
        Complex, structured or object data.
    MaskError
        A mask, labels or an area of the wrong dtype or shape, or areas that have pixels in common; or everything is
        masked.
    TooFewSpectraError
        Fewer usable spectra or channels than phases.
    NegativeCountsError, NotCountsError
        noise="poisson" for values that are negative or not whole.
    OptionError
        An impossible number or level, an unknown noise model, `known` that are no spectra, gaps in `labels`, or an
        argument that a `model` would have to ignore.
    EnergyAxisMismatchError
        `model` was found on another energy axis, and cannot be resampled soundly, or not be aligned within 6 % of the
        axis and 4 % of the dispersion; `known` has another one.
    ModelFileError
        `model` is the path of a file that is no model or a damaged one.
    Cancelled
        The progress was cancelled before or after the search for the number, which keeps the best so far.
    ImportError
        ``interactive=True`` without the package of a toolkit; the message says how to install it.

    Warns
    -----
    BaselineBetterWarning
        PCA of the same size predicts held-out counts better: spectra vary within phases, or mix everywhere.

    Notes
    -----
    Masked and not finite spectra are labelled -1. Where the map holds counts, a spectrum without any is data: vacuum
    gets the label of some phase and counts towards its area, so mask it, ``navigation_mask=...``. Otherwise empty
    spectra are labelled -1. Phases that are not known or labelled are in the order of falling share.

    Counts are multinomial given their sum. Of other data, the whitened spectrum is that of the phase times the
    intensity that fits best. Where the energy axis may drift (not in X-ray maps), scan lines that do are moved back
    by whole channels first. A large map is learnt from boxes spread over it; then all pixels are assigned.

    A pixel is none of the known phases where some window of energy deviates from them and their mixtures more
    than in spectra drawn from the model, given the model's own error.

    References
    ----------
    F. Forbes, N. Peyrard, IEEE Trans. Pattern Anal. Mach. Intell. 25 (2003) 1089 (mixtures with a Potts prior);
    J. Batson, L. Royer, J. Webber, bioRxiv 786269 (2019) (scores on held-out counts).

    Examples
    --------
    >>> import hyperspy_specml as specml
    >>> s = specml.datasets.fe_cr_ni_map((32, 32), texture="grains", n_channels=256).signal
    >>> phases = s.phase_map(show_progressbar=False)
    >>> phases.spectra
    <EDSTEMSpectrum, title: Summed spectra of the phases of Simulated Fe-Cr-Ni map, dimensions: (4|256)>
    """
    return _answer("phase_map", "PhaseMap", locals())


def _answer(method: str, tool: str, given: dict[str, Any]) -> Any:
    """Call the workflow of a method with what the method was given, or open its tool."""
    signal, interactive, *how = (given.pop(name) for name in ("self", "interactive", "display", "toolkit"))
    if interactive:
        from hyperspy_specml import gui

        return getattr(gui, tool)(signal, **given).open(*how)
    from hyperspy_specml import workflows

    return getattr(workflows, method)(workflows.Call.on(signal, method, given), **given)
