"""The page on which two responses are compared."""

import html
import string

_PAGE = string.Template("""\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style nonce="$nonce">
  :root { color-scheme: light dark; font: 1.05rem/1.5 system-ui, sans-serif; }
  body { max-width: 72rem; margin: 0 auto; padding: 1rem; }
  progress { width: 100%; }
  .text { display: block; margin: 0; white-space: pre-wrap;
    overflow-wrap: anywhere; }
  .turn { border-left: 4px solid GrayText; margin: 1rem 0;
    padding: .25rem 1rem; }
  h1 { font-size: 1.3rem; }
  .pair { display: grid; gap: 1rem; align-items: start;
    grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
  button { font: inherit; text-align: left; padding: 1rem; width: 100%;
    border: 1px solid GrayText; border-radius: .5rem; background: Canvas;
    color: CanvasText; cursor: pointer; }
  button:hover, button:focus-visible { border-color: Highlight;
    outline: 2px solid Highlight; }
  .tie { text-align: center; margin-top: 1rem; }
  kbd { border: 1px solid GrayText; border-radius: .25rem; padding: 0 .4rem;
    display: inline-block; margin-bottom: .5rem; }
</style>
<main>
<p>$progress</p>
<progress max="$total" value="$done" aria-label="Labelled"></progress>
$content
</main>
<script nonce="$nonce">
  const buttons = [...document.querySelectorAll("button")];
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const button = buttons.find(button => button.value === event.key);
    if (button) button.click();
  });
</script>
</html>
""")
_FORM = string.Template("""\
$turns
<h1>Which response is better?</h1>
<form method="post" action="/" autocomplete="off">
<input type="hidden" name="token" value="$nonce">
<input type="hidden" name="pair" value="$number">
<div class="pair">
<button name="choice" value="1"><kbd>1</kbd>
<span class="text">$left</span></button>
<button name="choice" value="2"><kbd>2</kbd>
<span class="text">$right</span></button>
</div>
<button class="tie" name="choice" value="0"><kbd>0</kbd> a tie</button>
</form>
""")
_NAMES = {"system": "System", "user": "User", "model": "Model"}


def comparison_page(comparison, left, number, done, total, token):
    """Return the page with a pair, and with forms that send the choice.

    Args:
        comparison: `Comparison`.
        left: int: 1 or 2 for the response that is on the left.
        number: int, which the form sends, too.
        done: int. Pairs with a label.
        total: int. All pairs.
        token: str, which the form sends, too.

    Returns:
        str, HTML in which all texts are escaped.
    """
    turns = [*comparison.messages, ("user", comparison.prompt)]
    responses = comparison.responses
    first, second = responses if left == 1 else responses[::-1]
    form = _FORM.substitute(
        turns="\n".join(
            f'<div class="turn"><strong>{_NAMES.get(role, "")}</strong>'
            f'<p class="text">{html.escape(text)}</p></div>'
            for role, text in turns
        ),
        nonce=token,
        number=number,
        left=html.escape(first),
        right=html.escape(second),
    )
    progress = f"{done} of {total} pairs are labelled."
    return _page(progress, form, done, total, token)


def last_page(path, total, token):
    """Return the page that says that all pairs are labelled: a str."""
    content = (
        f"<h1>All done</h1><p>The labels are in {html.escape(str(path))}. "
        "Close this page, and press Ctrl-C where you started it.</p>"
    )
    progress = f"All {total} pairs are labelled."
    return _page(progress, content, total, total, token)


def _page(progress, content, done, total, token):
    return _PAGE.substitute(
        title=f"{done} of {total} pairs",
        progress=progress,
        content=content,
        done=done,
        total=total,
        nonce=token,
    )
