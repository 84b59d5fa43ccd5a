"""Every error that a user can act on, drawn as one tree; and the leaves of the host.

The root stands in :mod:`edgeser_export.utilities.errors`, the leaves of each package in its own module of errors, and
those of corpora in :mod:`edgeser.corpora.errors`, so that imports point one way::

    EdgeserError                    one line on what was wrong, one on what to do; exit code 2
    ├── MissingExtra                (ImportError) a verb needs a package that is not installed
    ├── MissingRuntime              (ImportError) nothing installed runs, or writes, files of a format
    ├── StorageError                (OSError) full disk, read-only card, missing permission
    │   └── OutputTaken             what stands in an output's place is not edgeser's
    ├── TextError                   (ValueError) text that no kit can carry
    ├── ExportError                 (ValueError) a student cannot be written in the asked format
    │   ├── GraphError              the op graph is not well formed, or a writer does not know an op
    │   ├── ModelFileError          a model file is not what its runtime or the writers make
    │   └── ParityError             the written file computes something else; exit code 1
    ├── AudioError                  (ValueError) a recording is unreadable, empty or not finite
    ├── FrontendError               (ValueError) a front-end that cannot be computed
    ├── EncoderError                (ValueError) an encoder is unknown, damaged, or not what its card says
    ├── KitError                    (ValueError) a kit cannot be trusted or understood
    │   ├── KitDamaged              truncated, or a member has another hash
    │   ├── KitSchemaError          made for another version of the format
    │   └── KitUntrusted            not signed with the key that this machine trusts
    ├── KeyFileError                (ValueError) a key's file is missing, malformed, expired or in the way
    ├── DistilledSetError           (ValueError) a distilled set is not well formed
    ├── DeviceError                 (ValueError) the folder of an installation is missing or damaged
    ├── ModelError                  (ValueError) a model folder is missing or incomplete
    ├── TrainingError               (ArithmeticError) training on the device went wrong
    ├── ClipsError                  (ValueError) the owner's own clips cannot be trained on
    ├── ListenError                 (ValueError) listening cannot be done as asked
    │   ├── MicrophoneError         (OSError) no microphone, or one that cannot be used
    │   ├── BrokerError             (OSError) the MQTT broker does not let this program in
    │   └── PortInUse               (OSError) another program has the page's address
    ├── GateFailed                  the result missed a bound that was asked for; exit code 1
    ├── CorpusError                 (ValueError) a corpus cannot be used as it is
    │   ├── UnknownCorpus           no corpus format has this name
    │   ├── CorpusNotFound          (FileNotFoundError) its folder or manifest does not exist
    │   ├── EmptyCorpus             no recording at all
    │   ├── WrongCorpus             recordings, but of another corpus
    │   ├── UnreadableLabels        a manifest or table cannot be read
    │   │   └── MissingColumns      a table lacks columns
    │   ├── BadCorpora              a file that names several corpora does not fit
    │   ├── UnknownLabel            neither a known emotion nor declared
    │   ├── UnknownSpeaker          it is not known who speaks
    │   ├── UnclearLayout           it is not clear which folders are emotions
    │   ├── ConflictingCopies       one recording with two labels, two speakers or in two parts
    │   ├── SplitError              it cannot be split as asked
    │   │   ├── UnknownSplit        the name is not understood
    │   │   └── SpeakerLeak         a speaker stands in two parts
    │   └── DownloadError           (OSError) it cannot be downloaded
    │       ├── DownloadInterrupted the server refused or closed early
    │       └── UnsafeArchive       damaged, or writes outside its folder
    ├── RunError                    (ValueError) a run folder is missing, incomplete or of other settings
    ├── AuditError                  (ValueError) what an audit needs is not there
    ├── SettingsError               (ValueError) flags or configuration that do not fit
    ├── DeployError                 (RuntimeError) a command on the board failed, or the board cannot be reached
    ├── WheelError                  (RuntimeError) the wheels for a board cannot be got together
    ├── WorkerError                 (RuntimeError) a worker process died
    └── DivergedError               (ArithmeticError) distillation or training left the finite numbers

A leaf also inherits the builtin that one would catch. A test compares the drawing with the classes.
"""

from __future__ import annotations

from edgeser_export.utilities.errors import EdgeserError


class RunError(EdgeserError, ValueError):
    """A run folder is missing, incomplete, or was made with other settings."""


class AuditError(EdgeserError, ValueError):
    """A run cannot be audited: its recordings are gone, or there are too few speakers or clips."""


class SettingsError(EdgeserError, ValueError):
    """Flags or configuration values that are wrong or do not fit each other."""


class DeployError(EdgeserError, RuntimeError):
    """A board cannot be reached, or a command on it failed."""


class WheelError(EdgeserError, RuntimeError):
    """The wheels that a board needs cannot be got together."""


class WorkerError(EdgeserError, RuntimeError):
    """A process that worked on a job died."""


class DivergedError(EdgeserError, ArithmeticError):
    """A distillation or a training on the host left the finite numbers."""
