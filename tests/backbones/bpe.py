"""A small byte-level BPE tokenizer, trained in milliseconds, as GPT-2 and Llama 3 have one."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = ("a caf\u00e9 opens today", "no dog sleeps here", "yes, the dog runs and the cat sleeps",
             "maybe it is great", "the film was terrible")


def byte_level(special: list[str], texts: Sequence[str] = SENTENCES, **names) -> PreTrainedTokenizerFast:
    """A tokenizer whose first pieces are ``special``.

    Args:
      special: pieces, of ids 0, 1, ...
      texts: whose words become pieces.
      **names: what ``transformers`` calls them: pad_token, eos_token, ...
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    words = [f" {word}" for text in texts for word in text.split()]
    tokenizer.train_from_iterator([*texts, *words] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
