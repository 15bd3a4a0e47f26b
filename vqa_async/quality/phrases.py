"""The words by which refusals, leaks and questions are told, folded, in several languages. Data.

Refusals are looked for at the beginning of an answer only: there they stand, and "I can't see" in the middle
of a description is part of it. That an image does not show what was asked is an answer and no refusal.
"""

from __future__ import annotations

_I_CANNOT = ("i can't", "i cannot", "i can not", "i am unable", "i'm unable", "i am not able", "i'm not able")
_SEE_OR_HELP = (
    "see", "view", "access", "open", "process", "analyze", "analyse", "assist", "help", "identify", "provide",
    "answer", "fulfil", "comply", "do that", "generate", "describe", "determine who", "display", "directly",
)  # fmt: skip

REFUSALS = tuple(
    {
        *(f"{start} {to}{verb}" for start in _I_CANNOT for to in ("", "to ") for verb in _SEE_OR_HELP),
        *("i'm sorry", "i am sorry", "sorry, i", "sorry, but", "i apologize", "i apologise", "my apologies"),
        *("unfortunately, i", "i don't have the ability", "i do not have the ability", "i don't have access"),
        *("i won't", "i will not be able", "i must decline", "i'm not able to", "i have no access"),
        *("no image was provided", "no image is provided", "please provide the image", "please upload"),
        *("i don't see any image", "i do not see any image", "i don't see an image", "there is no image"),
        *(
            "抱歉",
            "很抱歉",
            "对不起",
            "對不起",
            "我无法",
            "我無法",
            "我不能",
            "无法识别图",
            "请提供图",
            "請提供圖",
        ),
        *("申し訳", "すみませんが", "ごめんなさい", "画像を見ることはできません", "お答えできません"),
        *("죄송", "미안하지만", "이미지를 볼 수 없"),
        *(
            "es tut mir leid",
            "tut mir leid",
            "ich kann das bild nicht",
            "ich kann nicht sehen",
            "leider kann ich",
        ),
        *("ich kann dabei nicht", "ich bin nicht in der lage", "entschuldigung, "),
        *("je suis désolé", "désolé", "je ne peux pas voir", "je ne peux pas", "je ne suis pas en mesure"),
        *(
            "lo siento",
            "lo lamento",
            "no puedo ver",
            "no puedo ayudar",
            "no puedo identificar",
            "no soy capaz",
        ),
        *("desculpe", "sinto muito", "não posso ver", "não consigo ver", "não posso ajudar", "lamento, "),
        *("mi dispiace", "non posso vedere", "non sono in grado", "non riesco a vedere"),
        *("извините", "к сожалению, я", "простите", "я не могу", "мне жаль"),
        *("آسف", "عذرا", "عذرًا", "أعتذر", "لا أستطيع", "لا يمكنني"),
        *("maaf, saya", "xin lỗi", "üzgünüm", "przykro mi"),
        *("przepraszam", "ขออภัย", "क्षमा करें", "मुझे खेद"),
    }
)
"""How answers begin that are none."""

AI_LEAKS = (
    "as an ai", "as a language model", "ai language model", "large language model", "i'm an ai", "i am an ai",
    "as a text-based", "my training data", "作为一个ai", "作为ai",
    "作为人工智能", "作为一个人工智能", "语言模型",
    "aiとして", "言語モデル", "언어 모델", "als ki", "als ki-", "ki-sprachmodell", "sprachmodell",
    "en tant qu'ia", "modèle de langage", "como modelo de lenguaje", "modelo de lenguaje", "como uma ia",
    "modelo de linguagem", "modello linguistico", "языковая модель", "نموذج لغوي",
)  # fmt: skip
"""By which a model speaks of itself, anywhere in an answer."""

PROMPT_LEAKS = (
    "generate complete qa pairs", "generate a question-answer pair", "generate question-answer pairs",
    "you are an image question-answer generator", "your task is to generate",
    "based on image content and caption",
    "your question here", "your answer here", "<question>", "<answer>", "[question]", "[answer]",
    "{question}", "{answer}", "insert question", "insert answer", "<|im_start|>", "<|assistant|>", "<image>",
)  # fmt: skip
"""Of what was asked, or of the skeleton of the form, in place of a text."""

LEAK_TRACES = (
    "an ai", "model", "text-based", "training data", "als ki", "qu'ia", "uma ia", "generat", "based on image",
    "your question", "your answer", "insert ", "<", "[", "{", "作为", "语言模型", "として", "言語", "언어",
    "modèle", "языковая", "نموذج",
)  # fmt: skip
"""Of which one stands in every leak above: they are fewer, and most texts hold none."""

ASKING_MARKS = ("?", "？", "؟", "՞", "፧")

ASKING_WORDS = tuple(
    f"{word} "
    for word in (
        "what", "which", "who", "whom", "whose", "where", "when", "why", "how",
        "is", "are", "was", "were", "do",
        "does", "did", "can", "could", "has", "have", "will", "would",
        "should", "in what", "at what", "on which",
        "in which", "from which", "describe", "name", "list", "identify", "explain", "count", "tell", "give",
        "state", "find", "compare", "read", "choose", "select",
        "locate", "estimate", "summarize", "summarise",
        "was", "welche", "welcher", "welches", "wer", "wo", "wann", "warum",
        "wie", "wieviel", "ist", "sind", "hat",
        "beschreibe", "nenne", "quel", "quelle", "quels", "quelles", "qui", "que", "où", "quand", "pourquoi",
        "comment", "combien", "est-ce", "décris", "décrivez", "qué", "cuál",
        "cuáles", "quién", "dónde", "cuándo",
        "por qué", "cómo", "cuánto", "cuántos", "cuántas", "describe", "describa",
        "qual", "quais", "quem", "onde",
        "quantos", "quantas", "descreva", "che", "quale", "quali", "chi",
        "dove", "quando", "perché", "quanti",
        "что", "какой", "какая", "какое", "какие", "кто", "где", "когда",
        "почему", "сколько", "как", "опишите",
        "ما", "ماذا", "من", "أين", "متى", "كيف", "كم", "هل", "لماذا",
    )
)  # fmt: skip
"""With which a sentence begins that asks, or tells somebody to say."""

ASKING_PARTS = (
    "什么", "什麼", "吗", "嗎", "谁", "誰", "哪", "几",
    "幾", "多少", "如何", "怎", "是否", "为何", "请", "請",
    "描述", "列出", "何", "どこ", "どの", "どんな", "いつ",
    "なぜ", "ですか", "ますか", "무엇", "누가", "어디",
    "언제", "까",
)  # fmt: skip
"""Of languages that put no blanks between words: anywhere in the question."""
