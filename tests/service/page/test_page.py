"""The search page in a real browser, on the real service: what stands there is what the library answers."""

import json
import os
from urllib.parse import parse_qs, urlsplit

import pytest
from servers import make_index, running

from refcolbert import Document, Index
from refcolbert.corpus.passages import split
from refcolbert.service.router import Router

if not os.environ.get("CI"):
    pytest.importorskip("selenium")
from selenium.webdriver.common.keys import Keys

QUERY = "parse a date"


def hits_of(library, query=QUERY, k=10, **options):
    """What the library answers."""
    return library.search(query, k, **options)


def shown(page):
    """(id, score) of each result: the id stands in the heading, or beside a title."""
    return page.js(
        "return [...document.querySelectorAll('article')].map(a => ["
        " (a.querySelector('.id')?.textContent ?? 'id ' + a.querySelector('h2').textContent).slice(3),"
        " a.querySelector('.score').textContent])"
    )


def short(word):
    """A word as the page shows it: of an endless one the beginning."""
    return word if len(word) <= 120 else word[:80] + "…"


def opened(page, rank):
    """Open one result by its button, and wait for its explanation."""
    page.js("document.querySelectorAll('article .toggle')[arguments[0] - 1].click()", rank)
    page.wait("document.querySelector('article.open .sum')")
    return page.one("article.open")


# ---- results


def test_typing_shows_the_answer_of_the_library(page, library):
    """Every result, its order and its score are the library's; a word more is another answer."""
    for query in (QUERY, QUERY + " string"):
        page.ask(query)
        assert shown(page) == [[hit.id, f"{hit.score:.2f}"] for hit in hits_of(library, query)]
    assert page.texts(".rank") == [str(rank) for rank in range(1, len(library) + 1)]
    assert page.texts("#status")[0].startswith("8 results in ")
    assert page.texts("#about") == [f"notes.index · 8 documents · {library.info()['tokens']:,} token vectors"]


def test_a_partial_answer_names_what_is_missing(visit, encoder, tmp_path):
    """A router without one of its parts shows the results of the others and one line; whole, it shows no line."""
    first = make_index(tmp_path / "a", encoder, [{"id": "date", "text": "parse a date from a string"}])
    second = make_index(tmp_path / "b", encoder, [{"id": "file", "text": "read the file line by line"}])
    with running(first) as one, running(second) as two:
        router = Router([one.url, two.url], str(encoder.folder))
        with running(router) as client:
            page = visit(client)
            page.ask(QUERY)
            assert page.texts("#about")[0].startswith("2 parts · 2 documents")
            assert page.texts("#partial") == [""]
            two.server.should_exit = True
            page.wait("fetch('ready').then(r => r.json()).then(r => window.now = r.parts) && window.now?.answering < 2")
            page.ask(QUERY + " line")
            assert page.texts("#partial") == [f"Incomplete: no answer from {two.url}"]
            assert [hit for hit, _ in shown(page)] == ["date"]


def test_as_many_results_as_are_asked_for(page, library):
    """The number chosen is the number shown, and stands in the URL."""
    page.ask(QUERY)
    page.js("const k = document.getElementById('k'); k.value = '5'; k.dispatchEvent(new Event('change'))")
    page.wait("document.querySelectorAll('article').length === 5")
    assert shown(page) == [[hit.id, f"{hit.score:.2f}"] for hit in hits_of(library, k=5)]
    assert parse_qs(urlsplit(page.driver.current_url).query) == {"q": [QUERY], "k": ["5"]}


def test_an_empty_question_is_no_question(page):
    """When the question is deleted its results go too, and the page explains itself again."""
    page.ask(QUERY)
    page.type(Keys.BACKSPACE * len(QUERY))
    page.wait("!document.querySelector('article') && !document.getElementById('welcome').hidden")
    assert page.one("#asked").is_displayed() is False
    assert urlsplit(page.driver.current_url).query == ""


def test_an_answer_that_comes_too_late_is_dropped(page, library):
    """When an earlier question is answered after a later one, the later answer stays."""
    page.js(
        "const real = window.fetch; window.late = 0;"
        "window.fetch = async (path, options) => {"
        "  const late = options.body && JSON.parse(options.body).query === 'the file';"
        "  const answer = await real(path, {...options, signal: late ? undefined : options.signal});"
        "  if (late) { await new Promise(done => setTimeout(done, 1500)); window.late += 1; }"
        "  return answer; };"
    )
    page.type("the file")
    page.wait("document.title.startsWith('the file')")
    page.ask("the file date")
    page.wait("window.late === 1")
    assert shown(page) == [[hit.id, f"{hit.score:.2f}"] for hit in hits_of(library, "the file date")]


# ---- colors


def test_words_are_colored_by_what_they_answered(page, library):
    """A word is marked if and only if it answered, in the color of the first it answered, deeper where it is closer."""
    page.ask(QUERY)
    colors = {2: "w0", 3: "w1", 4: "w2"}  # after [CLS] and the marker
    marks = page.js(
        "return [...document.querySelectorAll('article')].map(a => [...a.querySelectorAll('h2 mark, .text mark')]"
        ".map(m => [m.textContent, m.dataset.words, m.className, m.style.getPropertyValue('--depth')]))"
    )
    for hit, found in zip(hits_of(library), marks, strict=True):
        segments = [s for s in hit.explain().segments if s.answers and s.text]
        if hit.id == "essay":
            continue  # an excerpt
        assert found == [
            [
                short(s.text),
                " ".join(str(a.word) for a in s.answers),
                colors.get(s.answers[0].word, "rest"),
                f"{max(s.answers[0].similarity, 0) ** 2:.3f}",
            ]
            for s in segments
        ]
    assert page.texts("#words button") == ["parse", "a", "date", "[CLS]", "[Q]", "[SEP]", "[MASK] ×26"]


@pytest.mark.parametrize("how", ["pointer", "focus"])
def test_a_query_word_brings_out_its_answers(page, library, how):
    """Pointed at or focused, a query word lights up what answered it in every result, and says so; then it stops."""
    page.ask(QUERY)
    chip = page.all("#words button")[2]  # date
    if how == "pointer":
        page.point(chip)
    else:
        page.js("arguments[0].focus()", chip)
    page.wait("document.querySelector('#results.lit')")
    lit = page.js(
        "return [...document.querySelectorAll('article')].map(a => [...a.querySelectorAll('mark.on')]"
        ".map(m => m.textContent))"
    )
    caption, number = "date", 4
    for hit, found in zip(hits_of(library), lit, strict=True):
        answers = [(s, a) for s in hit.explain().segments for a in s.answers if a.word == number]
        assert found == [short(s.text) for s, _ in answers if s.text]
        best, answer = max(answers, key=lambda pair: pair[1].similarity)
        if hit.rank <= 5:
            said = f"{hit.rank}. {short(best.text or best.token)} {answer.similarity:.2f}"
            caption += ("   " if hit.rank > 1 else " → ") + said
    assert page.texts("#caption") == [caption]
    if how == "pointer":
        page.point(page.one("header h1"))
    else:
        page.js("document.activeElement.blur()")
    page.wait("!document.querySelector('#results.lit, mark.on')")
    assert page.texts("#caption") == ["Choose a word to see what answered it."]


def test_a_pressed_query_word_stays(page):
    """A click keeps a query word's answers lit, also with the pointer elsewhere; a second one lets go."""
    page.ask(QUERY)
    chip = page.all("#words button")[0]
    chip.click()
    page.point(page.one("header h1"))
    assert chip.get_attribute("aria-pressed") == "true"
    assert page.all("#results.lit mark.on")
    chip.click()
    page.js("document.activeElement.blur()")
    page.point(page.one("header h1"))
    page.wait("!document.querySelector('#results.lit')")
    assert chip.get_attribute("aria-pressed") == "false"


def test_a_documents_word_says_what_it_answered(page, library):
    """Pointed at, a marked word names the query words that it answered with their similarities, and lights them up."""
    page.ask(QUERY)
    segment = next(s for s in hits_of(library)[0].explain().segments if s.text and s.answers)
    words = hits_of(library)[0].explain().words
    page.point(page.all("article mark")[0])
    names = {
        a.word: f"{words[a.word].text}{' ×26' if words[a.word].kind == 'expansion' else ''}" for a in segment.answers
    }
    asked = ", ".join(f"{names[a.word]} {a.similarity:.2f}" for a in segment.answers)
    page.wait("document.getElementById('caption').textContent === arguments[0]", f"{segment.text} answers {asked}")
    assert {e.text for e in page.all("#words button.on")} == set(names.values())


# ---- why


def test_an_open_result_shows_how_its_score_adds_up(page, library):
    """Parts, words, what each found and its similarity are the explanation's; [MASK] tokens count what they matched."""
    page.ask(QUERY)
    opened(page, 1)
    hit = hits_of(library)[0]
    words = hit.explain().words
    parts = {kind: sum(w.similarity for w in words if w.kind == kind) for kind in ("text", "marker", "expansion")}
    said = f"your words {parts['text']:.2f} + markers {parts['marker']:.2f} + expansion {parts['expansion']:.2f} = "
    assert page.texts(".sum") == [f"{said}{hit.score:.2f}"]
    rows = page.js(
        "return [...document.querySelectorAll('.why > table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert len(rows) == len(words)
    for word, (asked, found, _, similarity) in zip(words, rows, strict=True):
        assert asked == (f"{word.text} ×{len(word.rows)}" if word.kind == "expansion" else word.text)
        assert similarity.split(" of ")[0] == f"{word.similarity:.2f}"
        counted = [text if n == 1 or word.kind == "text" else f"{text} ×{n}" for text, n in word.found]
        assert found.split(" and ")[0] == ", ".join(counted[:6])


def test_all_similarities_are_drawn_read_and_tabled(page, library):
    """The drawing has a cell a pair, framed where it matched; arrow keys read the similarities; the table holds all."""
    page.ask(QUERY)
    opened(page, 2)
    page.one(".draw").click()
    page.wait("document.querySelector('canvas')?.width > 300 || document.querySelector('canvas')?.style.width")
    found = hits_of(library)[1].explain()
    n_q, n_d = found.similarities.shape
    size = page.js("const c = document.querySelector('canvas'); return [c.width, c.height]")
    assert size == [16 * n_d, 92 + 16 * n_q]
    assert page.js(PIXELS) > 20
    page.js("document.querySelector('canvas').focus()")
    page.type(Keys.ARROW_DOWN)
    match = found.matches[0]
    assert page.texts(".read")[0] == f"[CLS] × {match.document_token}: {match.similarity:.3f}, its best match"
    page.type(Keys.ARROW_DOWN + Keys.ARROW_RIGHT)
    row, column = 1, min(match.document_row + 1, n_d - 1)
    read = f"[unused0] × {found.document_tokens[column]}: {found.similarities[row, column]:.3f}"
    assert page.texts(".read")[0].removesuffix(", its best match") == read
    page.one("figcaption button").click()
    table = page.js(
        "return [...document.querySelectorAll('.table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert [row[0] for row in table] == list(found.document_tokens)
    assert [[float(cell) for cell in row[1:]] for row in table] == [
        pytest.approx(column, abs=0.0051) for column in found.similarities.T
    ]
    best = page.js(
        "return [...document.querySelectorAll('.table .best')]"
        ".map(c => [c.cellIndex - 1, c.parentElement.rowIndex - 1])"
    )
    assert sorted(best) == sorted([i, m.document_row] for i, m in enumerate(found.matches))


PIXELS = """
const c = document.querySelector('canvas'), data = c.getContext('2d').getImageData(0, 92, c.width, c.height - 92).data;
const seen = new Set(); for (let i = 0; i < data.length; i += 4) seen.add(`${data[i]} ${data[i + 1]} ${data[i + 2]}`);
return seen.size;"""


def test_with_all_similarities_a_query_word_tints_every_word(page):
    """Once the similarities are here, a query word shows how close every word of the open result comes."""
    page.ask(QUERY)
    opened(page, 1)
    page.one(".draw").click()
    page.wait("document.querySelector('canvas')")
    page.point(page.all("#words button")[2])
    page.wait("document.querySelectorAll('article.open .text .near').length > 3")
    near = page.js(
        "return [...document.querySelectorAll('article.open .near')]"
        ".map(e => Number(e.style.getPropertyValue('--near')))"
    )
    assert all(0 <= value <= 1 for value in near)
    assert len(set(near)) > 2


def test_a_long_text_is_cut_to_what_answered(page, library):
    """Of a long document the places are shown where the question was answered; opened, all of it."""
    page.ask("parse the date string")
    rank = next(hit.rank for hit in hits_of(library, "parse the date string") if hit.id == "essay")
    text = page.texts("article .text")[rank - 1]
    assert "parse the date string" in text
    assert "…" in text
    assert len(text) < 450
    opened(page, rank)
    whole = page.js(TEXT, page.one("article.open"))
    (unread,) = page.texts(".unread")  # the tiny model's documents have 64 tokens
    assert whole.endswith(unread)
    assert 64 - 2 - 4 - 6 < len(whole.removesuffix(unread).split()) < 64
    assert whole == library.get(["essay"])[0].text


TEXT = """
const nodes = [...arguments[0].querySelector('.text').childNodes].filter(n => !n.classList?.contains('token'));
return nodes.map(n => n.textContent).join('');"""


# ---- modes


def test_the_mode_is_switched_by_keyboard_and_kept_in_the_url(page, library):
    """Arrow keys move the switch; the results are the library's, both parts stand beside a hybrid one; back undoes."""
    page.ask(QUERY)
    page.js("document.querySelector('#mode :checked').focus()")
    for mode in ("words", "hybrid"):
        page.type(Keys.ARROW_RIGHT)
        page.wait("new URLSearchParams(location.search).get('mode') === arguments[0]", mode)
        page.explained(QUERY)
        page.wait("document.querySelectorAll('article').length === arguments[0]", len(hits_of(library, mode=mode)))
        page.wait("document.querySelectorAll('.both').length === arguments[0]", 8 if mode == "hybrid" else 0)
        page.explained(QUERY)
        assert shown(page) == [[hit.id, f"{hit.score:.2f}"] for hit in hits_of(library, mode=mode)]
    both = [f"late {h.parts.late:.2f} · words {h.parts.words:.2f}" for h in hits_of(library, mode="hybrid")]
    assert page.texts(".both") == both
    page.driver.back()
    page.wait("document.querySelector('#mode :checked').value === 'words'")


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_shared_words_are_underlined(visit, service, library, mode):
    """In every result the places of the shared words are marked as such, beside the colors of a hybrid search."""
    page = visit(service, f"?q=date+string&mode={mode}")
    page.explained("date string")
    marked = page.js(
        "return [...document.querySelectorAll('article')].map(a => [...a.querySelectorAll('h2 .shared, .text .shared')]"
        ".map(m => m.textContent))"
    )
    for hit, found in zip(hits_of(library, "date string", mode=mode), marked, strict=True):
        spans = sorted(span for word in hit.explain().shared_words for span in word.spans)
        assert found == [hit.text[slice(*span)] for span in spans], hit.id
    assert bool(page.all("article mark")) == (mode == "hybrid")


def test_a_result_by_words_shows_the_shares_of_its_words(visit, service, library):
    """Opened, it has the words with their shares of BM25 and no similarities; the question has no colored words."""
    page = visit(service, "?q=date+string&mode=words")
    page.explained("date string")
    opened(page, 1)
    hit = hits_of(library, "date string", mode="words")[0]
    assert page.texts(".sum") == [f"shared words = {hit.score:.2f}"]
    rows = page.js(
        "return [...document.querySelectorAll('.why tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    assert [(row[0], row[3]) for row in rows] == [(w.text, f"{w.score:.2f}") for w in hit.explain().shared_words]
    assert not page.all(".draw, #asked:not([hidden])")


def test_an_index_without_words_has_no_switch(visit, encoder, tmp_path):
    """A URL that asks for words is refused where there are none, and can be changed; then the switch is not offered."""
    with Index.create(tmp_path / "index", encoder, words=None) as made:
        made.add(["a date"])
    with running(tmp_path / "index") as client:
        page = visit(client, "?q=date&mode=words")
        page.errors_expected = True  # the browser notes a 400
        page.wait("document.querySelector('#problem:not([hidden])')")
        assert "requires an index with words" in page.texts("#problem")[0]
        page.wait("!document.getElementById('mode').hidden")
        page.js("document.querySelector('#mode [value=late]').click()")
        page.explained("date")
        page.open("?q=date")
        page.explained("date")
        page.wait("document.getElementById('about').textContent")
        assert page.one("#mode").is_displayed() is False


# ---- harmless


def test_hostile_texts_are_shown_as_text(page, library):
    """Markup in a text, an id or metadata is text: no element of it, no script, nothing wider than the window."""
    page.ask("date file")
    rank = next(hit.rank for hit in hits_of(library, "date file") if hit.id == "<b>evil</b>")
    article = opened(page, rank)
    assert page.js("return window.hit ?? null") is None
    assert not page.all("article script, article img, article b, article i, article u")
    assert page.js(TEXT, article) == library.get(["<b>evil</b>"])[0].text
    assert "<i>key</i> <u>value</u>" in page.texts("article .field")
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    page.view(360, 700, touch=True)
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")


def test_right_to_left_texts_read_from_the_right(page, library):
    """Each text has its own direction, and its words and emoji stay whole."""
    page.ask("date")
    rank = next(hit.rank for hit in hits_of(library, "date") if hit.id == "rtl")
    assert (
        page.js("return getComputedStyle(document.querySelectorAll('article .text')[arguments[0]]).direction", rank - 1)
        == "rtl"
    )
    assert page.texts("article .text")[rank - 1] == library.get(["rtl"])[0].text


def test_the_page_allows_no_inline_script(service, page):
    """The policy comes as a header and in the page, without unsafe-inline; a script put into the page does not run."""
    reply = service.get("/")
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    assert b"Content-Security-Policy" in reply.body
    page.errors_expected = True  # the browser says that it refused
    page.js("const s = document.createElement('script'); s.textContent = 'window.hit = 3'; document.body.append(s)")
    page.js("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 4\">')")
    page.ask(QUERY)
    assert page.js("return window.hit ?? null") is None


# ---- the URL


def test_a_shared_url_shows_the_same(visit, service, library):
    """A URL with question, number and filter gives that answer at once, with the filter in sight."""
    where = {"year": {"$gte": 2020}}
    page = visit(service, "?q=parse+a+date&k=5&where=" + json.dumps(where))
    page.explained(QUERY)
    assert shown(page) == [[hit.id, f"{hit.score:.2f}"] for hit in hits_of(library, k=5, where=where)]
    assert page.one("#query").get_attribute("value") == QUERY
    assert page.texts("#conditions button") == ["year ≥ 2020 ×"]
    assert page.one("#k").get_attribute("value") == "5"


def test_back_leads_to_the_last_question(page):
    """Questions that were sent with Enter are steps of the history; keys in between are not."""
    page.ask("file")
    page.type(Keys.ENTER)
    page.ask("wing")
    page.type(Keys.ENTER)
    page.driver.back()
    page.explained("file")
    assert page.one("#query").get_attribute("value") == "file"
    page.driver.forward()
    page.explained("wing")


# ---- filters


def test_a_filter_is_put_together_and_taken_away(page, library):
    """Fields and values of results are offered; a condition narrows the results; its button widens them again."""
    page.ask(QUERY)
    page.one("#filter").click()
    assert page.focused() == "field"
    assert set(page.js("return [...document.querySelectorAll('#fields option')].map(o => o.value)")) >= {"lang", "year"}
    page.type("year" + Keys.TAB)
    page.js("document.getElementById('operator').value = '$gte'")
    page.js("document.getElementById('value').focus()")
    assert set(page.js("return [...document.querySelectorAll('#values option')].map(o => o.value)")) == {
        "2019",
        "2021",
        "2023",
    }
    page.type("2021" + Keys.ENTER)
    page.wait("document.querySelectorAll('article').length === 2")
    page.explained(QUERY)
    where = {"year": {"$gte": 2021}}
    assert [name for name, _ in shown(page)] == [hit.id for hit in hits_of(library, where=where)]
    assert json.loads(page.one("#where").get_attribute("value")) == where
    page.one("#conditions button").click()
    page.wait("document.querySelectorAll('article').length === 8")
    assert page.focused() == "filter"


def test_a_results_metadata_is_a_filter(page, library):
    """A click on a field of a result leaves those that share it; a second field is a second condition."""
    page.ask(QUERY)
    fields = page.texts("article .field")
    page.all("article .field")[fields.index("lang en")].click()
    page.wait("document.querySelectorAll('article').length === 2")
    page.explained(QUERY)
    assert {name for name, _ in shown(page)} == {"date", "file"}
    fields = page.texts("article .field")
    page.all("article .field")[fields.index("year 2019")].click()
    page.wait("document.querySelectorAll('article').length === 1")
    assert parse_qs(urlsplit(page.driver.current_url).query)["where"] == ['{"lang":"en","year":2019}']


def test_an_element_of_a_list_and_a_part_of_a_text_are_filters(page, library):
    """A list shows its elements, each a filter; the form's "contains" finds a part of a text."""
    page.ask(QUERY)
    fields = page.texts("article .field")
    page.all("article .field")[fields.index("tags lift")].click()
    page.wait("document.querySelectorAll('article').length === 1")
    page.one("#filter").click()
    page.type("title" + Keys.TAB)
    page.js("document.getElementById('operator').value = '$contains'")
    page.js("document.getElementById('value').focus()")
    page.type("layers" + Keys.ENTER)
    page.wait("document.querySelectorAll('#conditions button').length === 2")
    page.explained(QUERY)
    where = {"tags": "lift", "title": {"$contains": "layers"}}
    assert [name for name, _ in shown(page)] == [hit.id for hit in hits_of(library, where=where)]
    assert page.texts("#conditions button") == ["tags = lift ×", "title contains layers ×"]


def test_a_filter_as_json_is_taken_when_it_is_whole(page, library):
    """Half-typed JSON says what is wrong and searches nothing; any filter the library knows can be written."""
    page.ask(QUERY)
    page.one("#filter").click()
    page.js("document.getElementById('where').focus()")
    page.type('{"$or": [{"year": 2019}, {"year": 2023}]')
    assert page.texts("#where-problem")[0].startswith("Not a JSON object yet")
    assert len(page.all("article")) == 8
    page.type("}")
    page.wait("document.querySelectorAll('article').length === 2")
    assert page.texts("#where-problem") == [""]
    where = {"$or": [{"year": 2019}, {"year": 2023}]}
    assert [name for name, _ in shown(page)] == [hit.id for hit in hits_of(library, where=where)]
    assert page.texts("#conditions button") == ['{"$or":[{"year":2019},{"year":2023}]} ×']


# ---- what is said instead of results


def test_a_filter_that_matches_nothing_says_so(visit, service):
    """No results is a sentence and a way out."""
    page = visit(service, '?q=date&where={"year":1900}')
    page.wait("document.querySelector('#problem:not([hidden])')")
    assert "Nothing matches the filter" in page.texts("#problem")[0]
    assert page.texts("#status") == ["No results"]
    page.one("#problem button").click()
    page.explained("date")
    assert len(page.all("article")) == 8


def test_what_the_service_refuses_is_said_in_its_words(visit, service):
    """A filter that the library does not know shows the library's message."""
    page = visit(service, '?q=date&where={"year":{"$near":3}}')
    page.errors_expected = True  # the browser notes a 400
    page.wait("document.querySelector('#problem:not([hidden])')")
    assert "This query is not valid" in page.texts("#problem h2")
    assert "unknown filter operator" in page.texts("#problem")[0]


def test_an_empty_index_says_how_to_fill_it(visit, encoder, tmp_path):
    """Without documents the page says so, before and after a question."""
    with running(make_index(tmp_path / "index", encoder, [])) as client:
        page = visit(client)
        page.wait("document.querySelector('#problem:not([hidden])')")
        assert page.texts("#problem h2") == ["This index is empty"]
        page.type("date")
        page.wait("document.getElementById('status').textContent === 'No results'")
        page.wait("document.querySelector('#problem:not([hidden])')")
        assert page.texts("#problem h2") == ["This index is empty"]


def test_a_busy_service_is_asked_again(visit, encoder, tmp_path):
    """503 is said, and the search is tried again by itself."""
    with running(make_index(tmp_path / "index", encoder), limits={"answer_seconds": 1e-6}) as client:
        page = visit(client)
        page.errors_expected = True
        page.js("const real = window.fetch; window.asked = 0; window.fetch = (...a) => (window.asked++, real(...a))")
        page.type("date")
        page.wait("document.querySelector('#problem:not([hidden])')")
        assert page.texts("#problem h2") == ["The service is busy"]
        page.wait("window.asked >= 2")


def test_a_service_that_has_gone_is_noticed(visit, encoder, tmp_path):
    """Without an answer the page says so, and a button tries again."""
    with running(make_index(tmp_path / "index", encoder)) as client:
        page = visit(client)
        page.ask("date")
    page.errors_expected = True
    page.type(" file")
    page.wait("document.querySelector('#problem:not([hidden])')")
    assert page.texts("#problem h2") == ["No connection"]
    assert page.texts("#problem button") == ["Try again"]


def test_a_token_is_asked_for_once(visit, encoder, tmp_path):
    """Where the service wants a token the page asks for it, sends it from then on, and never puts it into the URL."""
    secret = "a-token-that-is-long-enough"  # noqa: S105 - of this test
    with running(make_index(tmp_path / "index", encoder), token=secret) as client:
        page = visit(client, "?q=date")
        page.errors_expected = True
        page.wait("document.querySelector('.secret input')")
        assert not page.all("article")
        page.js("document.querySelector('.secret input').focus()")
        page.type(secret + Keys.ENTER)
        page.explained("date")
        assert len(page.all("article")) == 3
        assert secret not in page.driver.current_url
        assert page.texts("#about")[0].startswith("index · 3 documents")


# ---- without a mouse, in the dark, on a phone, by ear


def test_everything_can_be_done_with_the_keyboard(page):
    """/ asks, arrows walk through the results, Enter opens and closes, Escape leads back; all with a visible focus."""
    page.js("document.activeElement.blur()")
    page.driver.switch_to.active_element.send_keys("/")
    assert page.focused() == "query"
    page.type("date/")  # a slash in a question is a slash
    page.explained("date/")
    page.type(Keys.ARROW_DOWN)
    assert page.focused() == "result-1"
    page.type(Keys.ARROW_DOWN)
    assert page.focused() == "result-2"
    assert page.js("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.type(Keys.ENTER)
    page.wait("document.querySelector('article.open .sum')")
    assert page.one(".toggle[aria-expanded='true']")
    page.type(Keys.ENTER)
    assert not page.all("article.open")
    page.type(Keys.ARROW_UP)
    page.type(Keys.ARROW_UP)
    assert page.focused() == "query"
    page.type(Keys.ARROW_DOWN)
    page.type(Keys.ESCAPE)
    assert page.focused() == "query"


def test_tab_reaches_every_control_once(page):
    """Tab goes from the search through filter, number, words and the first result to its controls."""
    page.ask("date")
    seen = []
    for _ in range(16):
        page.type(Keys.TAB)
        seen.append(page.js("const e = document.activeElement; return e.id || e.className || e.tagName"))
    assert seen[:3] == ["filter", "INPUT", "k"]  # one stop for the three modes
    assert sum(name.startswith("word ") for name in seen) == 5
    assert seen[8] == "ARTICLE"
    assert "toggle" in seen[9]


def test_every_control_has_a_name(page):
    """In the browser's accessibility tree each button, field, image and region has a name, and landmarks are there."""
    page.ask(QUERY)
    opened(page, 1)
    page.one(".draw").click()
    page.wait("document.querySelector('canvas')")
    page.one("#filter").click()
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        if not node["ignored"]
    ]
    controls = {
        "button",
        "textbox",
        "radio",
        "radiogroup",
        "searchbox",
        "combobox",
        "img",
        "image",
        "region",
        "article",
        "columnheader",
        "group",
    }
    assert [node for node in nodes if node[0] in controls and not node[1].strip()] == []
    roles = [role for role, _ in nodes]
    assert {"banner", "main", "search", "contentinfo", "heading", "list", "status"} <= set(roles)
    assert ("article", "date") in nodes
    assert ("searchbox", "Search the documents") in nodes


CONTRAST = """
const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
const behind = (e) => {
  const chain = []; for (let p = e; p; p = p.parentElement) chain.unshift(parse(getComputedStyle(p).backgroundColor));
  return chain.reduce((under, top) => over(top, under), [255, 255, 255]);
};
const light = (c) => c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const out = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walk.nextNode());) {
  const e = node.parentElement, box = e.getBoundingClientRect();
  if (!node.data.trim() || box.width < 2 || !e.checkVisibility()) continue;
  if (e.matches('noscript, option, .hidden, .skip, :disabled')) continue;
  const under = behind(e), color = over(parse(getComputedStyle(e).color), under);
  const [a, b] = [light(color), light(under)].sort((x, y) => y - x);
  out.push([(a + 0.05) / (b + 0.05), `${e.tagName}.${e.className}: ${node.data.trim().slice(0, 30)}`]);
}
return out.sort((x, y) => x[0] - y[0]);"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_can_be_read_in_both_themes(visit, service, dark):
    """Every visible text has a contrast of at least 4.5 to what lies behind it, the deepest color included."""
    page = visit(service)
    page.view(1000, 900, dark=dark)
    page.ask(QUERY)
    opened(page, 1)
    page.one("#filter").click()
    page.js("for (const m of document.querySelectorAll('mark')) m.style.setProperty('--depth', '1')")
    chips = page.all("#words button")
    for chip in chips[:3]:  # the strongest a chip and a mark can be
        page.js("arguments[0].setAttribute('aria-pressed', 'true')", chip)
    contrasts = page.js(CONTRAST)
    assert len(contrasts) > 50
    assert contrasts[0][0] >= 4.5, contrasts[:5]
    page.point(chips[2])
    page.wait("document.querySelector('#results.lit')")
    contrasts = page.js(CONTRAST)
    assert contrasts[0][0] >= 4.5, contrasts[:5]


def test_the_themes_differ(visit, service):
    """The page follows the wish for a dark theme, the drawing too."""
    page = visit(service)
    light = page.js("return getComputedStyle(document.body).backgroundColor")
    page.view(1000, 900, dark=True)
    assert page.js("return getComputedStyle(document.body).backgroundColor") != light


def test_a_phone_shows_all_of_it(visit, service):
    """At 360 pixels nothing is wider than the screen, open results and filters included, and buttons can be hit."""
    page = visit(service)
    page.view(360, 740, touch=True)
    page.ask(QUERY)
    opened(page, 1)
    page.js("document.querySelector('.draw').click()")
    page.wait("document.querySelector('canvas')")
    page.js("document.getElementById('filter').click()")
    assert page.js("return document.documentElement.scrollWidth") <= 360
    small = page.js(
        "return [...document.querySelectorAll('button')].filter(b => b.checkVisibility())"
        ".map(b => [b.textContent, b.getBoundingClientRect().height]).filter(([, high]) => high < 24)"
    )
    assert small == []


def test_wished_for_stillness_is_granted(visit, service):
    """With prefers-reduced-motion nothing moves or fades."""
    page = visit(service)
    page.view(still=True)
    page.ask("date")
    moving = page.js(
        "return [...document.querySelectorAll('*')]"
        ".filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert moving == 0


def test_a_results_url_is_a_link(visit, encoder, tmp_path):
    """An address of the web is a link that tells nobody where it was followed; any other is a field like others."""
    urls = ["https://example.org/a?b=1", "javascript:alert(1)", 7]
    documents = [{"id": f"d{i}", "text": f"parse {i}", "metadata": {"url": url}} for i, url in enumerate(urls)]
    with Index.create(tmp_path / "i", encoder) as index:
        index.add(documents)
    with running(tmp_path / "i") as client:
        page = visit(client)
        page.ask(QUERY)
        links = page.js("return [...document.querySelectorAll('article a')].map(a => [a.href, a.rel, a.textContent])")
        assert links == [[urls[0], "noopener noreferrer", urls[0]]]
        assert sorted(page.texts(".field")) == ["url 7", "url javascript:alert(1)"]


# ---- passages

GUIDE = Document(
    id="guide.txt",
    text="Dates\n\nparse a date from a string.\nThen read the file line by line,\nparse a string again, 2024-01-31 or "
    "another date,\nand write the date of the file again.",
    metadata={"title": "Dates"},
)


@pytest.fixture
def passages(visit, encoder, tmp_path):
    """The page of a document in passages between two that have none; one passage was replaced."""
    parts = list(split([GUIDE], 12, 4))
    others = [{"id": "date", "text": "parse a date"}, {"id": "wing", "text": "a wing"}]
    with Index.create(tmp_path / "i", encoder) as index:
        index.add([others[0], *parts, others[1]])
        index.upsert([parts[1]])
        with running(tmp_path / "i", limits={"k": 50}) as client:
            page = visit(client)
            page.ask(QUERY)
            yield page, index


def test_passages_are_below_their_document(passages):
    """A document has one card; its passages are in it by score, with the ranks of the search."""
    page, index = passages
    cards = page.js(
        "return [...document.querySelectorAll('#results > li')].map(li => ["
        "li.querySelector('.head .field')?.textContent ?? null, "
        "[...li.querySelectorAll('article')].map(a => a.querySelector('.rank').textContent)])"
    )
    hits = hits_of(index)
    own = [str(hit.rank) for hit in hits if hit.metadata.get("passage_of")]
    assert len(own) > 3
    expected = {hit.metadata.get("passage_of", hit.rank): [str(hit.rank)] for hit in hits} | {"guide.txt": own}
    assert cards == [[name if name == "guide.txt" else None, ranks] for name, ranks in expected.items()]
    assert page.texts(".field") == ["guide.txt"]


def test_the_whole_document_is_one_click_away(passages):
    """All of it is there once, in order, whatever was found of it; the passages that were found are marked."""
    page, index = passages
    page.js("const k = document.getElementById('k'); k.value = '5'; k.dispatchEvent(new Event('change'))")
    page.wait("document.querySelectorAll('article').length === 5")
    page.one(".document > .head .toggle").click()
    page.wait("document.querySelector('.whole p')")
    assert page.texts(".whole") == [GUIDE.text]
    order = [hit.id for hit in hits_of(index, k=5) if hit.metadata.get("passage_of")]
    marked = page.js("return [...document.querySelectorAll('.whole span')].map(s => s.dataset.found ?? null)")
    names = [part.id for part in split([GUIDE], 12, 4)]
    assert marked == [str(order.index(name)) if name in order else None for name in names]
    page.one(".document > .head .toggle").click()
    assert not page.one(".whole").is_displayed()


def test_the_name_of_a_document_narrows_the_search_to_it(passages):
    """A click on the name is a filter for the passages of that document."""
    page, _ = passages
    page.one(".document > .head .field").click()
    page.wait("document.querySelectorAll('#results > li').length === 1")
    assert json.loads(parse_qs(urlsplit(page.driver.current_url).query)["where"][0]) == {"passage_of": "guide.txt"}
