"""The page that `GET /` of a server gives: the chat for whoever has a browser.

    chat.html ── the reader's language filled in ──▶ the page
      ├── chat.css      looks
      └── chat.js       what stands where, and what keys and buttons do
            ├── answer.js         one answer on its way from the server
            ├── conversation.js   turns, kept in this browser
            └── markdown.js       Markdown to elements, never by way of HTML

Nothing is built and nothing comes from elsewhere: a board has no internet. The scripts
are ES2018 modules, which browsers of 2018 know.
"""

__all__: list[str] = []
