// The image of a question.

const LONGEST_SIDE = 1024;
const LARGEST_FILE = 512 * 1024;

function setPicture(url) {
  picture = url;
  get("picture").hidden = !url;
  if (url) get("picture").querySelector("img").src = url;
  questionChanged();
}

/** Takes an image file. Large ones are made smaller, because the browser keeps only a few megabytes. */
async function takePicture(file) {
  if (get("attach").hidden) return tell("This model does not see images.");
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
    if (scale === 1 && file.size <= LARGEST_FILE && ["image/png", "image/jpeg", "image/webp"].includes(file.type)) {
      const reader = new FileReader();
      reader.onload = () => setPicture(reader.result);
      reader.readAsDataURL(file);
    } else {
      const canvas = make("canvas", { width: Math.ceil(bitmap.width * scale), height: Math.ceil(bitmap.height * scale) });
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      setPicture(canvas.toDataURL("image/jpeg", 0.9));
    }
    question.focus();
  } catch {
    tell(`${file.name || "This file"} is not an image that this browser can read.`);
  }
}

get("attach").onclick = () => get("file").click();
get("file").onchange = ({ target }) => {
  if (target.files[0]) takePicture(target.files[0]);
  target.value = "";
};
get("picture").querySelector("button").onclick = () => {
  setPicture(null);
  question.focus();
};
const imageOf = (transfer) => [...transfer.files].find((file) => file.type.startsWith("image/"));
question.addEventListener("paste", (event) => imageOf(event.clipboardData) && takePicture(imageOf(event.clipboardData)));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (imageOf(event.dataTransfer)) takePicture(imageOf(event.dataTransfer));
});
