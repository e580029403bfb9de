"""The files that the panel is made of, how each is cut, and which half it belongs to.

*Tuning* sets are those that a shipped recipe was made on, their relatives, and those that earlier experiments looked
at: choices may be made by them. Nothing is chosen by looking at the *report* half.
"""

from dataclasses import dataclass
from typing import Literal

Domain = Literal["genome", "log", "signal"]
Half = Literal["tuning", "report"]


@dataclass(frozen=True, kw_only=True)
class Set:
    """One file of the panel."""

    name: str
    half: Half
    domain: Domain
    family: str
    """Sets of one family tell nearly the same: the figures of families are pooled, not those of sets."""
    file: str
    """Relative to the folder of shared data."""
    cut: str
    """A function of `benchmarks.panel.cut`."""
    test: str = ""
    """A file of its own that is published as the test part; what is cut off then is nothing."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the function that cuts."""
    season: int = 0
    """Steps of the season that is known of a signal, for the methods that need to be told; 0: none."""


def _genome(name: str, family: str, file: str, cut: str, half: Half = "tuning", test: str = "") -> Set:
    return Set(name=name, half=half, domain="genome", family=family, file=f"genomics/{file}", cut=cut, test=test)


def _log(name: str, family: str, file: str, cut: str, half: Half = "tuning", **options: str) -> Set:
    given = tuple(options.items())
    return Set(name=name, half=half, domain="log", family=family, file=f"events/{file}", cut=cut, options=given)


def _signal(name: str, family: str, file: str, cut: str, half: Half = "tuning", test: str = "", season: int = 0) -> Set:
    return Set(
        name=name,
        half=half,
        domain="signal",
        family=family,
        file=f"signals/{file}",
        cut=cut,
        test=f"signals/{test}" if test else "",
        season=season,
    )


SETS = (
    _signal("sunspots", "sunspots", "sunspots.csv", "rows", season=11),
    _signal("co2", "co2", "co2.csv", "rows", season=52),
    _signal("gunpoint", "gunpoint", "ucr/GunPoint_TRAIN.ts", "published", test="ucr/GunPoint_TEST.ts"),
    _signal("basicmotions", "basicmotions", "ucr/BasicMotions_TRAIN.ts", "published", test="ucr/BasicMotions_TEST.ts"),
    _genome("lambda", "lambda", "lambda_virus.fa.gz", "fasta"),
    _log("tax2017", "helpdesk", "helpdesk_tax2017_ids.csv", "cases", case="CaseID", time="CompleteTimestamp"),
    _log("hdfs_2k", "hdfs", "loghub/HDFS_2k.log", "lines"),
    _log("hdfs_sessions", "hdfs", "hdfs_sessions_train.txt", "lines_by_hash"),
    _log("helpdesk", "helpdesk", "helpdesk_full.csv", "cases", case="Case ID", time="Complete Timestamp"),
    _log("sepsis", "sepsis", "sepsis.csv", "cases", case="case_id", time="timestamp", separator=";"),
    _genome("miseq", "miseq", "ERR1163317_miseq_sample.fq.gz", "fastq"),
    _genome("promoters", "promoters", "human_TATA_promoters_EPDnew.txt", "lines_by_hash"),
    _signal("etth1", "ett", "ETTh1.csv", "rows", season=24),
    _log("apache_access", "apache access", "apache_access_elastic.log", "access_lines"),
    _genome(
        "prom_300_tata",
        "promoters",
        "GUE/prom_300_tata/train.csv",
        "published",
        test="genomics/GUE/prom_300_tata/test.csv",
    ),
    _genome("hpylori", "hpylori", "hpylori_SJM180.fasta.gz", "fasta"),
    _log("bpic2012", "bpic2012", "bpic2012.xes.gz", "traces"),
    _signal("mitbih_100", "mitbih", "wfdb/100.hea", "recording"),
    _signal("eeg_r04", "eeg", "EEGMMIDB_S001R04.edf", "recording"),
    _genome("ecoli_k12", "ecoli", "ecoli_K12_MG1655.fasta.gz", "fasta"),
    _genome("ecoli_contigs", "ecoli", "ecoli_K12_MG1655_contigs.fasta.gz", "fasta"),
    _genome("ecoli_536", "ecoli", "ecoli_536_NC_008253.fna.gz", "fasta"),
    _genome("ecoli_454", "ecoli", "ecoli_like_454AllContigs.fna.gz", "fasta"),
    _genome("yeast", "yeast", "yeast_S288C_R64_chrI-X_Mito.fa.gz", "fasta"),
    _signal("ecg200", "ecg200", "ucr/ECG200_TRAIN.txt", "published", "report", test="ucr/ECG200_TEST.txt"),
    _log("apache_errors", "apache errors", "loghub/Apache_2k.log", "lines", "report"),
    _log("openssh", "openssh", "loghub/OpenSSH_2k.log", "lines", "report"),
    _log("bgl", "bgl", "loghub/BGL_2k.log", "lines", "report"),
    _log("bpic2015_1", "bpic2015", "bpic2015_1.xes.gz", "traces", "report"),
    _genome("amplicons_1", "amplicons", "seqkit_reads_1.fq.gz", "fastq", "report"),
    _genome("amplicons_2", "amplicons", "seqkit_reads_2.fq.gz", "fastq", "report"),
    _genome("tf_0", "tf_0", "GUE/tf_0/train.csv", "published", "report", test="genomics/GUE/tf_0/test.csv"),
    _genome("mirbase", "mirbase", "mirbase_hairpin.fa.gz", "fasta", "report"),
    _signal("mne_test", "mne_test", "mne_test.edf", "recording", "report"),
    _signal("ptb_s0010", "ptb", "wfdb/s0010_re.hea", "recording", "report"),
    _signal("mimic_3975656", "mimic", "wfdb/3975656_0005.hea", "recording", "report"),
)
"""The short ones first, so that a panel that is broken off has something of each domain."""

LEFT_OUT = {
    "helpdesk.xes.gz": "the same cases as helpdesk_full.csv",
    "hdfs_sessions_abnormal.txt": "labelled anomalies, not a part of the same process",
    "loghub/*_structured.csv, *_templates.csv": "what a parser made of the raw logs that are here",
    "wfdb_test_edfann.edf, *.atr, *.event": "annotations without signals",
    "corrupt/*": "damaged on purpose",
}
