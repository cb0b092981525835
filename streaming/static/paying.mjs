// Keeps in this tab, and nowhere else, where to come back to from the payment page.
const KEY = "kuager-order";
const paying = document.getElementById("paying");

if (paying) {
  sessionStorage.setItem(KEY, paying.dataset.secret ?? "");
} else {
  const secret = sessionStorage.getItem(KEY);
  if (secret) location.replace(`/copies/${encodeURIComponent(secret)}`);
}
