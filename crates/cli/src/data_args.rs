//! Options of the training and evaluation data ─► rows

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use data::{Columns, FileFormat, RejectFile, Source, WeightedSource};
use train::data::{
    ConversationRows, EmptyOutputPolicy, LoadedRows, RowReport, RowStore, RowStoreBuilder,
    stream_rows,
};
use train::{Instruction, ReadOptions};

use crate::cache::cache_folder;
use crate::choice::choice;
use crate::failure::Result;

/// How data files are read.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// Rows with an empty output: skip and count them, or keep them and train on the
    /// end-of-sequence token alone.
    #[arg(long, value_enum, default_value_t, value_name = "POLICY", help_heading = "Data")]
    empty_outputs: EmptyOutputChoice,
    /// Names of the fields in the data, if they are others: instruction=question,output=answer. A field
    /// inside an object is answer.text.
    #[arg(long, value_name = "FIELD=COLUMN,...", help_heading = "Data")]
    columns: Option<Columns>,
    /// Format of all data files [default: found by the content]. Plain text needs it: text makes a row of
    /// each paragraph, lines of each line.
    #[arg(long, value_parser = format_parser(), value_name = "FORMAT", help_heading = "Data")]
    format: Option<FileFormat>,
    /// Skip and count invalid records instead of stopping at the first one, and write them with the
    /// reasons to FILE [default: rejected.jsonl].
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "rejected.jsonl",
        help_heading = "Data"
    )]
    skip_bad: Option<PathBuf>,
}

choice! {
    /// The values of `--empty-outputs`.
    #[derive(Default)]
    enum EmptyOutputChoice => EmptyOutputPolicy {
        #[default]
        Skip => Self::Skip,
        #[value(alias = "learn")]
        Keep => Self::Keep,
    }
}

/// The values of `--format`.
fn format_parser() -> impl TypedValueParser<Value = FileFormat> {
    PossibleValuesParser::new(FileFormat::ALL.map(FileFormat::name))
        .try_map(|name| name.parse::<FileFormat>())
}

/// Which rows are read, and what happens to the others.
#[derive(Clone, Copy)]
pub struct RowRequest<'a> {
    /// The folder of relative image paths.
    pub images: Option<&'a Path>,
    /// The split of folders and data sets.
    pub split: &'a str,
    /// What conversations become.
    pub conversations: ConversationRows,
    /// Where invalid records go.
    pub rejects: Option<&'a RejectFile>,
    /// Gets a message about what was recognized, and about each kind of skipped, changed or unused data.
    pub notify: &'a dyn Fn(&str),
}

impl DataArgs {
    /// Reads the rows of several sources in order into memory.
    pub fn load_rows(
        &self,
        sources: &[PathBuf],
        images: Option<&Path>,
        split: &str,
        conversations: ConversationRows,
        notify: &dyn Fn(&str),
    ) -> Result<LoadedRows> {
        let rejects = self.reject_file()?;
        let request =
            RowRequest { images, split, conversations, rejects: rejects.as_ref(), notify };
        let loaded = self.collect_rows(sources, request)?;
        finish_rejects(rejects.as_ref(), notify)?;
        Ok(loaded)
    }

    /// As [`load_rows`](Self::load_rows), without completing the file of rejected records.
    pub fn collect_rows(&self, sources: &[PathBuf], request: RowRequest) -> Result<LoadedRows> {
        let mut rows = Vec::new();
        let (_weights, report) = self.each_row(sources, request, &mut |_source, row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(LoadedRows { rows, report })
    }

    /// Reads the rows of several sources in order; many of them go to a temporary file. Weights of sources
    /// make a mixture.
    pub fn stream_rows(
        &self,
        sources: &[PathBuf],
        request: RowRequest,
    ) -> Result<(RowStore, RowReport)> {
        // Not the system's folder for temporary files, which may be in memory.
        let folder = cache_folder().ok().map(|folder| folder.join("rows"));
        let mut rows = RowStoreBuilder::new(RowStoreBuilder::DEFAULT_LIMIT, folder.as_deref());
        let (weights, report) = self.each_row(sources, request, &mut |source, row| {
            rows.set_source(source);
            rows.push(row)
        })?;
        Ok((rows.build()?.with_weights(&weights), report))
    }

    /// Calls `receive` with each row and the number of its source. Returns the weights of the sources; empty
    /// if they have none.
    fn each_row(
        &self,
        sources: &[PathBuf],
        request: RowRequest,
        receive: &mut dyn FnMut(u16, Instruction) -> train::Result<()>,
    ) -> Result<(Vec<f64>, RowReport)> {
        let RowRequest { images, split, conversations, rejects, notify } = request;
        let options = ReadOptions {
            image_folder: images,
            split: Some(split),
            empty_outputs: self.empty_outputs.into(),
            format: self.format,
            columns: self.columns.as_ref(),
            rejects,
            conversations,
        };
        let parse = |path: &PathBuf| WeightedSource::parse(path.as_os_str());
        let sources = sources.iter().map(parse).collect::<data::Result<Vec<_>>>()?;
        let weights = data::weights(&sources)?.unwrap_or_default();
        let mut all = RowReport::default();
        for (index, WeightedSource { source, .. }) in sources.iter().enumerate() {
            let mut receive = |row| receive(index as u16, row);
            let mut read = |path: &Path| stream_rows(path, &options, &mut receive);
            let report = match &files(source, split)?[..] {
                [path] => read(path)?,
                paths => {
                    let mut report = RowReport::default();
                    for path in paths {
                        report.merge(read(path)?);
                    }
                    report
                }
            };
            let recognized = [report.describe_formats(), report.describe_kinds()];
            let recognized = recognized.into_iter().flatten().collect::<Vec<_>>().join(": ");
            let recognized = (!recognized.is_empty()).then_some(recognized);
            for line in recognized.into_iter().chain(report.messages()) {
                notify(&format!("{source}: {line}"));
            }
            all.merge(report);
        }
        Ok((weights, all))
    }

    /// The file of `--skip-bad`.
    pub fn reject_file(&self) -> Result<Option<RejectFile>> {
        Ok(self.skip_bad.as_deref().map(RejectFile::new).transpose()?)
    }
}

/// Completes the file of rejected records.
pub fn finish_rejects(rejects: Option<&RejectFile>, notify: &dyn Fn(&str)) -> Result {
    if let Some(rejects) = rejects
        && rejects.finish()?
    {
        let (count, path) = (rejects.count(), rejects.path().display());
        notify(&format!("{count} invalid records were skipped; they are in {path}"));
    }
    Ok(())
}

/// The files or folders of a source; downloads a data set of the Hugging Face Hub.
fn files(source: &Source, split: &str) -> Result<Vec<PathBuf>> {
    match source {
        Source::Path(path) => Ok(vec![path.clone()]),
        Source::Hub(source) => fetch(source, split),
    }
}

#[cfg(feature = "hub")]
fn fetch(source: &data::HubSource, split: &str) -> Result<Vec<PathBuf>> {
    use data::hub::Hub;

    use crate::transfer_progress::show_files;

    Ok(Hub::from_env()?.fetch(source, split, &mut show_files())?)
}

#[cfg(not(feature = "hub"))]
fn fetch(source: &data::HubSource, _split: &str) -> Result<Vec<PathBuf>> {
    let message = format!("{source}: this build has no Hugging Face Hub support (feature `hub`)");
    Err(crate::error::Error::usage(message).into())
}
