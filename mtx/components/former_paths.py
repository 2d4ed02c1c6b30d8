"""Former names of modules: an import by a former name returns the renamed module and logs its new name.

`import mtx` installs `FormerPathFinder` before Python's own finders, which would load a second copy of a module in a
renamed package. Former names in a `_target_` of a config are found in the same way.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
from collections.abc import Sequence
from types import ModuleType

log = logging.getLogger(__name__)

# Modules whose former name is now the name of a package; the package calls `former_attribute` for their contents.
PACKAGE_MODULES = {
    "mtx.app": "mtx.app.command",
    "mtx.infra.dal.remote": "mtx.infra.dal.remote.filesystem",
    "mtx.infra.dataset.hub": "mtx.infra.dataset.hub.pinned_dataset",
}
# Former name → new name.
FORMER = {
    "mtx.app.exhausted_resources": "mtx.exhausted_resources",
    "mtx.app.grid": "mtx.app.grid_check",
    "mtx.app.job_only_overrides": "mtx.app.varied_group_overrides",
    "mtx.app.launch_settings": "mtx.app.launch_settings_check",
    "mtx.app.sweep_callback": "mtx.app.hydra_sweep_callback",
    "mtx.app.sweeper_install_callback": "mtx.app.hydra_sweep_callback",
    "mtx.assumptions": "mtx.assumption_log",
    "mtx.batches.kernel_argument_layout": "mtx.batches.kernel_argument_array",
    "mtx.batches.kernel_call": "mtx.batches.kernel_argument_array",
    "mtx.batches.plan.batch_merging": "mtx.batches.plan.merge_to_batch_count",
    "mtx.batches.plan.constant_length": "mtx.batches.plan.constant_epoch_length",
    "mtx.batches.plan.length_classes": "mtx.batches.plan.same_length_classes",
    "mtx.batches.plan.mixture_sampling": "mtx.batches.plan.mixture_options",
    "mtx.batches.sampler": "mtx.batches.plan_batch_samplers",
    "mtx.callbacks": "mtx.training.callbacks",
    "mtx.callbacks.masks": "mtx.batches.schema",
    "mtx.completion": "mtx.app.completion",
    "mtx.components.checking": "mtx.components.check_and_build",
    "mtx.components.packaged_options": "mtx.components.unchanged_packaged_options",
    "mtx.components.unchanged_options": "mtx.components.unchanged_packaged_options",
    "mtx.cores": "mtx.cpu_count",
    "mtx.data.cached_repo": "mtx.data.repo_read_cache",
    "mtx.data.corpus": "mtx.data.concatenated_corpus",
    "mtx.data.encode": "mtx.data.encoding_stage",
    "mtx.data.exchange.archive": "mtx.data.exchange.atomic_export_target",
    "mtx.data.exchange.archives": "mtx.data.exchange.atomic_export_target",
    "mtx.data.exchange.column_types": "mtx.data.exchange.column_type_checks",
    "mtx.data.exchange.input_order": "mtx.data.exchange.dependency_order",
    "mtx.data.exchange.layout": "mtx.data.exchange.export_manifest",
    "mtx.data.exchange.move": "mtx.data.exchange.dataset_export",
    "mtx.data.exchange.rows": "mtx.data.exchange.export_formats",
    "mtx.data.exchange.transfer": "mtx.data.exchange.dataset_export",
    "mtx.data.exchange.unpack": "mtx.data.exchange.safe_unpacking",
    "mtx.data.filter.base": "mtx.data.filter.filter_protocol",
    "mtx.data.filter.duplicates": "mtx.data.filter.pair_set",
    "mtx.data.filter.rejects": "mtx.data.filter.rejected_samples",
    "mtx.data.filter.seen": "mtx.data.filter.pair_set",
    "mtx.data.pair_batches": "mtx.data.bounded_pair_batches",
    "mtx.data.pairs": "mtx.data.bounded_pair_batches",
    "mtx.data.payload_checks": "mtx.data.payload_manifest_comparison",
    "mtx.data.pipeline": "mtx.data.preparation",
    "mtx.data.progress": "mtx.progress.tracking",
    "mtx.data.sampled": "mtx.data.sampled_encoding",
    "mtx.data.score.noise_scores": "mtx.data.score.planted_noise_scores",
    "mtx.data.seen": "mtx.data.revision_caching_downloader",
    "mtx.data.selection_stages": "mtx.data.splitting_stage",
    "mtx.data.sets": "mtx.data.validation_sets",
    "mtx.data.source_revisions": "mtx.data.revision_caching_downloader",
    "mtx.data.split_and_filter_stages": "mtx.data.splitting_stage",
    "mtx.data.stages": "mtx.data.preparation",
    "mtx.data.task_engine": "mtx.data.engine_protocol",
    "mtx.data.tokenize.base": "mtx.data.tokenize.tokenization",
    "mtx.data.tokenize.corpus": "mtx.data.tokenize.training_text",
    "mtx.data.tokenize.draws": "mtx.data.tokenize.counter_rng",
    "mtx.data.tokenize.dropout": "mtx.data.tokenize.bpe_dropout",
    "mtx.data.tokenize.kernels": "mtx.data.tokenize.sampling_kernels",
    "mtx.data.tokenize.lattice": "mtx.data.tokenize.unigram_sampling",
    "mtx.data.tokenize.pair": "mtx.data.tokenize.tokenizer_artifact",
    "mtx.data.tokenize.pieces": "mtx.data.tokenize.cached_encoding",
    "mtx.data.tokenize.sampling": "mtx.data.tokenize.subword_sampling",
    "mtx.data.tokenize.source_target": "mtx.data.tokenize.tokenizer_artifact",
    "mtx.data.tokenize.words": "mtx.data.tokenize.word_index",
    "mtx.data.unused": "mtx.data.garbage_collection",
    "mtx.evaluation.statistics": "mtx.evaluation.verdict",
    "mtx.evaluation.student_range": "mtx.evaluation.critical_values",
    "mtx.experiment.checkpoints": "mtx.training.checkpoint_selection",
    "mtx.experiment.config": "mtx.components.check_and_build",
    "mtx.experiment.exchange": "mtx.experiment.export",
    "mtx.experiment.fit_summary": "mtx.experiment.fit_opening_and_summary",
    "mtx.experiment.page": "mtx.page",
    "mtx.experiment.page.data": "mtx.page.data_section",
    "mtx.experiment.page.drawn": "mtx.page.result_plots",
    "mtx.experiment.page.plots.curves": "mtx.page.plots.learning_curves",
    "mtx.experiment.page.plots.dots": "mtx.page.plots.effect_dots",
    "mtx.experiment.page.plots.figure": "mtx.page.plots.matplotlib_svg",
    "mtx.experiment.page.plots.front": "mtx.page.plots.pareto_front",
    "mtx.experiment.page.plots.lengths": "mtx.page.plots.length_histogram",
    "mtx.experiment.page.plots.shapes": "mtx.page.plots.batch_shapes",
    "mtx.experiment.page.plots.tokens": "mtx.page.plots.tokens_per_step",
    "mtx.experiment.page.profile": "mtx.records.plot_data_record",
    "mtx.experiment.page.reached": "mtx.page.time_to_quality",
    "mtx.experiment.page.write": "mtx.page.render",
    "mtx.experiment.profile": "mtx.records.plot_data_computation",
    "mtx.experiment.progress": "mtx.training.callbacks.progress_bar",
    "mtx.experiment.ranks": "mtx.training.rank_balance",
    "mtx.experiment.reference": "mtx.components.option_reference",
    "mtx.experiment.run": "mtx.experiment.run_context",
    "mtx.experiment.sweep": "mtx.sweep",
    "mtx.experiment.sweep.end": "mtx.sweep.terminal_summary",
    "mtx.experiment.sweep.fair": "mtx.records.cohorts",
    "mtx.experiment.sweep.metrics": "mtx.records.report_metrics",
    "mtx.experiment.sweep.reading": "mtx.records.job_records",
    "mtx.experiment.sweep.results": "mtx.records.result_types",
    "mtx.experiment.sweep.search": "mtx.sweep.search_directions",
    "mtx.experiment.sweep.status": "mtx.records.job_status",
    "mtx.experiment.sweep.summary": "mtx.sweep.terminal_summary",
    "mtx.experiment.sweep.tidy": "mtx.records.result_tables",
    "mtx.experiment.targets": "mtx.components.allowed_targets",
    "mtx.grid": "mtx.app.grid_check",
    "mtx.identity": "mtx.components.identity",
    "mtx.infra.dal.address": "mtx.infra.dal.remote_url_check",
    "mtx.infra.dal.aside": "mtx.infra.dal.quarantine",
    "mtx.infra.dal.base": "mtx.infra.dal.protocols",
    "mtx.infra.dal.bundle": "mtx.infra.dal.artifact",
    "mtx.infra.dal.files": "mtx.infra.dal.json_file_object_layer",
    "mtx.infra.dal.folder": "mtx.infra.dal.folder_file_layer",
    "mtx.infra.dal.home_folder": "mtx.infra.dal.tilde_expansion",
    "mtx.infra.dal.json_manifests": "mtx.infra.dal.json_file_object_layer",
    "mtx.infra.dal.maintenance": "mtx.infra.dal.maintenance_protocols",
    "mtx.infra.dal.offsets": "mtx.infra.dal.arrow_offsets_check",
    "mtx.infra.dal.remote.object_layer": "mtx.infra.dal.remote.manifests",
    "mtx.infra.dal.remote.remote_artifacts": "mtx.infra.dal.remote.artifacts",
    "mtx.infra.dal.remote.remote_layers": "mtx.infra.dal.remote.manifests",
    "mtx.infra.dal.remote_blobs": "mtx.infra.dal.remote.blobs",
    "mtx.infra.dal.remote_bundle": "mtx.infra.dal.remote.artifacts",
    "mtx.infra.dal.remote_layers": "mtx.infra.dal.remote.manifests",
    "mtx.infra.dal.rows": "mtx.infra.dal.arrow_rows",
    "mtx.infra.dal.sealed": "mtx.infra.dal.manifest_digest",
    "mtx.infra.dal.text_column": "mtx.infra.dal.text_column_reader",
    "mtx.infra.dal.texts": "mtx.infra.dal.text_column_reader",
    "mtx.infra.dal.upkeep": "mtx.infra.dal.maintenance_protocols",
    "mtx.infra.dal.url": "mtx.infra.dal.remote_url_check",
    "mtx.infra.dataset.call": "mtx.batches.kernel_argument_array",
    "mtx.infra.dataset.collate": "mtx.batches.collate",
    "mtx.infra.dataset.columns": "mtx.infra.dataset.column_detection",
    "mtx.infra.dataset.gather": "mtx.batches.collate_compiled",
    "mtx.infra.dataset.hub.client_compat": "mtx.infra.dataset.hub.client_check",
    "mtx.infra.dataset.hub_client": "mtx.infra.dataset.hub.client_check",
    "mtx.infra.dataset.hub_files": "mtx.infra.dataset.hub.range_retry",
    "mtx.infra.dataset.kernels": "mtx.batches.collate_kernels",
    "mtx.infra.dataset.native": "mtx.batches.compile_cache",
    "mtx.infra.dataset.pairs": "mtx.infra.dataset.pair_stream",
    "mtx.infra.dataset.patience": "mtx.infra.dataset.hub.retry",
    "mtx.infra.dataset.plan": "mtx.batches.plan",
    "mtx.infra.dataset.plan.base": "mtx.batches.plan.planner",
    "mtx.infra.dataset.plan.classes": "mtx.batches.plan.same_length_classes",
    "mtx.infra.dataset.plan.cover": "mtx.batches.plan.shape_cover",
    "mtx.infra.dataset.plan.cut": "mtx.batches.plan.batch_cutting",
    "mtx.infra.dataset.plan.fixed": "mtx.batches.plan.fixed_size",
    "mtx.infra.dataset.plan.merge": "mtx.batches.plan.merge_to_batch_count",
    "mtx.infra.dataset.plan.mixture": "mtx.batches.plan.mixture_epochs",
    "mtx.infra.dataset.plan.share": "mtx.batches.plan.rank_assignment",
    "mtx.infra.dataset.plan.shares": "mtx.batches.plan.mixture_proportions",
    "mtx.infra.dataset.plan.snake": "mtx.batches.plan.snake_order",
    "mtx.infra.dataset.plan.steady": "mtx.batches.plan.constant_epoch_length",
    "mtx.infra.dataset.sampler": "mtx.batches.plan_batch_samplers",
    "mtx.infra.dataset.sources.aligned": "mtx.infra.dataset.sources.line_aligned",
    "mtx.infra.dataset.sources.catalogue": "mtx.infra.dataset.sources.gettext_headers_and_pairs",
    "mtx.infra.dataset.sources.downloader_factory": "mtx.infra.dataset.sources.named_sources",
    "mtx.infra.dataset.sources.file_paths": "mtx.infra.dataset.sources.path_options",
    "mtx.infra.dataset.sources.files": "mtx.infra.dataset.sources.local_files",
    "mtx.infra.dataset.sources.find": "mtx.infra.dataset.sources.file_discovery",
    "mtx.infra.dataset.sources.gettext_header": "mtx.infra.dataset.sources.gettext_headers_and_pairs",
    "mtx.infra.dataset.sources.installed_gettext": "mtx.infra.dataset.sources.installed_catalogue_search",
    "mtx.infra.dataset.sources.language_tags": "mtx.infra.dataset.sources.language_direction",
    "mtx.infra.dataset.sources.languages": "mtx.infra.dataset.sources.language_direction",
    "mtx.infra.dataset.sources.markup": "mtx.infra.dataset.sources.xml_stream",
    "mtx.infra.dataset.sources.monolingual": "mtx.infra.dataset.sources.prediction_text",
    "mtx.infra.dataset.sources.named": "mtx.infra.dataset.sources.named_sources",
    "mtx.infra.dataset.sources.opus": "mtx.infra.dataset.sources.opus_zip",
    "mtx.infra.dataset.sources.opus_archive": "mtx.infra.dataset.sources.opus_zip",
    "mtx.infra.dataset.sources.packages": "mtx.infra.dataset.sources.installed_catalogue_search",
    "mtx.infra.dataset.sources.paths": "mtx.infra.dataset.sources.path_options",
    "mtx.infra.dataset.sources.reader": "mtx.infra.dataset.sources.format_protocol",
    "mtx.infra.dataset.sources.source_only": "mtx.infra.dataset.sources.prediction_text",
    "mtx.infra.dataset.sources.xml_text": "mtx.infra.dataset.sources.xml_decoding",
    "mtx.lightning": "mtx.training.lightning_compat",
    "mtx.multirun": "mtx.app.sweep_run",
    "mtx.overrides": "mtx.app.override_errors",
    "mtx.page.plots.svg_figure": "mtx.page.plots.matplotlib_svg",
    "mtx.progress.plain_console": "mtx.progress.literal_console",
    "mtx.records.equal_budget": "mtx.records.objective_at_equal_budget",
    "mtx.records.plot_data": "mtx.records.plot_data_computation",
    "mtx.records.profile_record": "mtx.records.plot_data_record",
    "mtx.records.stage_names": "mtx.records.used_dataset_ids",
    "mtx.redaction": "mtx.redaction_and_escaping",
    "mtx.resolvers": "mtx.app.resolvers",
    "mtx.shown": "mtx.redaction_and_escaping",
    "mtx.sweep.search_objectives": "mtx.sweep.search_directions",
    "mtx.sweep.start_end_lines": "mtx.sweep.run_start_end_log",
    "mtx.training.accelerate_pass": "mtx.training.accelerate_gradient_state",
    "mtx.training.ahead": "mtx.training.prefetch",
    "mtx.training.batch_size_finder": "mtx.training.tunable_batch_size",
    "mtx.training.bits": "mtx.evaluation.likelihood",
    "mtx.training.budget": "mtx.training.tunable_batch_size",
    "mtx.training.callbacks.exact_resume": "mtx.training.callbacks.random_states_and_gradients",
    "mtx.training.callbacks.token_mean": "mtx.training.callbacks.token_mean_gradients",
    "mtx.training.callbacks.training_time_left": "mtx.training.callbacks.training_end_estimate",
    "mtx.training.checkpoint": "mtx.training.checkpoint_callback",
    "mtx.training.checkpoint_files": "mtx.training.atomic_checkpoint_io",
    "mtx.training.document_column": "mtx.training.held_out_documents",
    "mtx.training.losses": "mtx.training.loss_curve",
    "mtx.training.model": "mtx.training.reference.transformer",
    "mtx.training.opened": "mtx.training.prepared_data",
    "mtx.training.pair_groups": "mtx.training.weighted_pair_groups",
    "mtx.training.plain_datamodule": "mtx.training.translation_data",
    "mtx.training.planner_budget": "mtx.training.tunable_batch_size",
    "mtx.training.predict": "mtx.training.prediction_row_numbers",
    "mtx.training.prediction_rows": "mtx.training.prediction_row_numbers",
    "mtx.training.prediction_sampler": "mtx.training.prediction_row_numbers",
    "mtx.training.record": "mtx.training.training_record",
    "mtx.training.resume": "mtx.training.lightning_resume",
    "mtx.training.sampled": "mtx.training.sampled_epochs",
    "mtx.training.serving": "mtx.training.split_loader",
    "mtx.training.split": "mtx.training.split_data",
    "mtx.training.static_shapes_check": "mtx.training.static_shapes_conflicts",
    "mtx.training.training_lines": "mtx.training.progress_log_callback",
    "mtx.training.transformer": "mtx.training.reference.network",
    "mtx.training.translate": "mtx.evaluation.beam_search",
    "mtx.training.whole_batches": "mtx.training.batch_datasets",
}

# New name of a module → former names of its attributes, which an import by the module's former name finds.
FORMER_ATTRIBUTES = {
    "mtx.infra.dal.manifest_digest": {"SEAL": "DIGEST_KEY", "sealed": "fields_with_digest"},
}


class FormerPathFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import finder that resolves a former module name to the renamed module itself, never to a second copy."""

    def __init__(self) -> None:
        self._specs: dict[str, importlib.machinery.ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec if `fullname` is in `FORMER`, or inside a package in `FORMER`; else None."""
        if not fullname.startswith("mtx.") or current_path(fullname) is None:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the renamed module, and log its new name once."""
        now = current_path(spec.name)
        assert now is not None
        module = importlib.import_module(now)
        for former, name in FORMER_ATTRIBUTES.get(now, {}).items():
            setattr(module, former, getattr(module, name))
        self._specs[spec.name] = module.__spec__
        log.warning("the module %s is now called %s; the former name still works", spec.name, now)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which Python has replaced. The module was executed under its new name."""
        assert module.__spec__ is not None
        module.__spec__ = self._specs.pop(module.__spec__.name)


def current_path(name: str) -> str | None:
    """Return the new name of a module, given a former name, or None if the name was never changed."""
    if name in FORMER:
        return FORMER[name]
    package, _, rest = name.rpartition(".")
    return None if not package or (now := current_path(package)) is None else f"{now}.{rest}"


def former_attribute(package: str, name: str) -> object:
    """Return the attribute `name` of the module whose former name is now the name of the package `package`.

    Raises:
        AttributeError: the module has no such attribute.
    """
    now = PACKAGE_MODULES[package]
    try:
        if name.startswith("__"):
            raise AttributeError(name)
        found: object = getattr(importlib.import_module(now), name)
    except AttributeError as error:
        raise AttributeError(f"module {package!r} has no attribute {name!r}") from error
    log.warning("%s.%s is now in %s; the former name still works", package, name, now)
    return found
