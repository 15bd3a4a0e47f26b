"""What is asked of a model: default prompts, question styles, domain packs, templates. Text in, text out.

    defaults     what is asked when nobody says otherwise
    packs        styles (styles.toml) and domain packs (domains/*.toml) as data, and packs of a user's own
    composing    a system prompt from its parts
    sandbox      where templates run, within bounds
    templates    a user's template over the columns of a row
    asking       all of it together, as the options say

No file of a user is opened here: the options bring the texts of theirs.
"""

from vqa_async.prompts.asking import Asking, asking_for, wording
from vqa_async.prompts.defaults import ANSWERING_SYSTEM_PROMPT, DEFAULT_PROMPT, DEFAULT_SYSTEM_PROMPT
from vqa_async.prompts.packs import DOMAINS, DomainPack, QuestionStyle, domain_pack, styles

__all__ = [
    "ANSWERING_SYSTEM_PROMPT",
    "DEFAULT_PROMPT",
    "DEFAULT_SYSTEM_PROMPT",
    "DOMAINS",
    "Asking",
    "DomainPack",
    "QuestionStyle",
    "asking_for",
    "domain_pack",
    "styles",
    "wording",
]
