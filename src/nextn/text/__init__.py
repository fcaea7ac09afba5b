"""Text in and out of a model: tokenizers, chat templates and the streaming detokenizer.

Import from the modules: `tokenizer`, `stream` and `chat_template` each load only what they need.
"""
