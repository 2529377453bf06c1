"""What spoils photographs, made on purpose: rain, snow, haze, noise, darkness, blur."""
